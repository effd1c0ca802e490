// LayerNorm and RMSNorm, alone or of a sum with a residual, and back: the kernels of ../forward.rs and ../backward.rs.
//
// A row is held by a part of a warp, by a warp, or by a block, in registers; plan.rs chooses. The backward pass reads x and
// dy once and writes dx and, for each chunk of rows, a strip of partial dgain and dbias; merge and finish add the
// strips by a fixed binary tree. A batch of groups has its own gain, bias and strips for each `group_rows` rows.
#include "statistics.cuh"

enum Flags { CENTRED = 1, ONE_PLUS = 2, BEFORE_GAIN = 4 };
// Strips that one thread of merge and finish adds.
constexpr int FAN = 64;

// The bytes of shared memory that plan.rs asks for; the host shim has its own.
#ifndef HOST_SHIM
extern __shared__ __align__(16) unsigned char dynamic_shared[];
#endif

// The row's output, from its statistics.
template <int V, class Team, class Row>
__device__ __forceinline__ void write(const Team &team, const Row &row, const Statistics &s,
                                      const Stored *__restrict__ gain, const Stored *__restrict__ bias,
                                      Stored *__restrict__ y, int flags) {
    const Factors<Distant<V>> factors(team, row.width, gain, flags & ONE_PLUS);
    row.each([&](int k, int at, const Vector<V> &x) {
        Real factor[V], out[V];
        factors.at(k, at, factor);
        // Without a bias, what leaves every sum as it is.
        const Vector<V> shift = bias ? load<V>(bias + at) : filled<V>(-Real(0));
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = s.normalized(x[v]);
        if (flags & BEFORE_GAIN) {
            const Vector<V> z = stored<V>(out), rounded = stored<V>(factor);
#pragma unroll
            for (int v = 0; v < V; ++v) out[v] = z[v] * rounded[v];
            const Vector<V> product = stored<V>(out);
#pragma unroll
            for (int v = 0; v < V; ++v) out[v] = product[v] + shift[v];
        } else {
#pragma unroll
            for (int v = 0; v < V; ++v) out[v] = fma(out[v], factor[v], shift[v]);
        }
        store<V>(stored<V>(out), y + at);
    });
}

#define FORWARD_SIGNATURE                                                                                              \
    const Stored *__restrict__ x, const Stored *__restrict__ residual, const Stored *__restrict__ gain,                \
        const Stored *__restrict__ bias, Stored *__restrict__ sum, Stored *__restrict__ y, long long rows,             \
        long long group_rows, int width, int flags, double eps
#define FORWARD_ARGUMENTS x, residual, gain, bias, sum, y, rows, group_rows, width, flags, eps

// Where the parameters of a row's group start.
__device__ __forceinline__ long long of_group(long long row, long long rows, long long group_rows, int width) {
    return group_rows == rows ? 0 : row / group_rows * width;
}

template <int V, class Team, class Row>
__device__ __forceinline__ void finish_row(Team &team, Row &held, long long row, FORWARD_SIGNATURE) {
    if (residual) held.add(residual + row * width, sum + row * width);
    const Statistics s = statistics(team, held, flags & CENTRED, eps);
    const long long group = of_group(row, rows, group_rows, width);
    write<V>(team, held, s, gain ? gain + group : gain, bias ? bias + group : bias, y + row * width, flags);
}

// ROWS rows for each LANES threads, all read before the first is used.
template <int LANES, int K, int V, int ROWS> __device__ __forceinline__ void forward_warps(FORWARD_SIGNATURE) {
    Warp<LANES> team;
    const long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES * ROWS;
    Resident<K, V> held[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        held[r] = Resident<K, V>(team, width);
        if (first + r < rows) held[r].read(x + (first + r) * width);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
        if (first + r < rows) finish_row<V>(team, held[r], first + r, FORWARD_ARGUMENTS);
}

// One row a block.
template <int V, class Row> __device__ __forceinline__ void forward_block(FORWARD_SIGNATURE) {
    BLOCK_TEAM(team, 0);
    const long long row = blockIdx.x;
    Row held(team, width);
    held.read(x + row * width);
    finish_row<V>(team, held, row, FORWARD_ARGUMENTS);
}

#define BACKWARD_SIGNATURE                                                                                             \
    const Stored *__restrict__ x, const Stored *__restrict__ gain, const Stored *__restrict__ dy,                      \
        Stored *__restrict__ dx, Real *__restrict__ strips, long long group_rows, int chunk_rows, int width,           \
        int flags, double eps
#define BACKWARD_ARGUMENTS x, gain, dy, dx, strips, group_rows, chunk_rows, width, flags, eps

// Of g = factor dy: its sum and that of g c, in the sweep of the squares.
template <class Row, class Gain> struct CotangentSums {
    static constexpr int COUNT = 2;
    const Row &dy;
    const Gain &gain;

    // 1/std is then within 2^20 of 1, and so is g z of g c.
    static __device__ __forceinline__ Real least() { return Real(0x1p-40); }
    static __device__ __forceinline__ Real most() { return Real(0x1p40); }

    template <int V> __device__ __forceinline__ void add(int k, int at, const Real (&c)[V], Real *sums) const {
        Real factor[V];
        gain.at(k, at, factor);
        const Vector<V> d = dy.at(k, at);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const Real g = d[v] * factor[v];
            sums[0] += g;
            sums[1] = fma(g, c[v], sums[1]);
        }
    }
};

// dx of a row, whose shares of dgain and dbias go to share(k, place, dy, z).
template <int V, class Team, class Row, class Gain, class Share>
__device__ __forceinline__ void pull_back(Team &team, const Row &x, const Row &dy, const Gain &gain,
                                          Stored *__restrict__ dx, int flags, double eps, Share share) {
    Real sums[2];
    const Statistics s = statistics(team, x, flags & CENTRED, eps, CotangentSums<Row, Gain>{dy, gain}, sums);
    const Real over = Real(1) / Real(x.width);
    // mean(g), 0 where nothing is centred, and mean(g z).
    const Real mean = flags & CENTRED ? sums[0] * over : Real(0);
    const Real along = fma(s.inverse, sums[1], -s.shift * sums[0]) * over;
    x.each([&](int k, int at, const Vector<V> &x) {
        Real factor[V], z[V], d[V], out[V];
        gain.at(k, at, factor);
        const Vector<V> cotangent = dy.at(k, at);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            z[v] = s.normalized(x[v]);
            d[v] = cotangent[v];
            const Real g = fma(d[v], factor[v], -mean);
            out[v] = fma(-z[v], along, g) * s.inverse;
        }
        if (s.scale != 1) {
#pragma unroll
            for (int v = 0; v < V; ++v) out[v] *= s.scale;
        }
        store<V>(stored<V>(out), dx + at);
        share(k, at, d, z);
    });
}

// A block's chunk of rows: of which group, from where to where.
struct Chunk {
    long long from, to, group;

    __device__ __forceinline__ Chunk(long long group_rows, int rows) {
        const long long chunks = (group_rows + rows - 1) / rows;
        group = blockIdx.x / chunks;
        const long long first = blockIdx.x % chunks * rows;
        from = group * group_rows + first;
        to = group * group_rows + (first + rows < group_rows ? first + rows : group_rows);
    }
};

// Where a team's next row is while one is pulled back: in memory, in the device's cache, or on its way to registers.
enum Next { IN_MEMORY, IN_CACHE, IN_REGISTERS };

// Of every `step`-th row of a chunk, from `row`.
template <int K, int V, Next NEXT, class Team, class Gain, class Share>
__device__ __forceinline__ void pull_back_rows(Team &team, const Stored *__restrict__ x, const Gain &gain,
                                               const Stored *__restrict__ dy, Stored *__restrict__ dx, long long row,
                                               int step, const Chunk &chunk, int width, int flags, double eps,
                                               Share share) {
    Resident<K, V> held(team, width), cotangent(team, width);
    if (row < chunk.to) {
        held.read(x + row * width);
        cotangent.read(dy + row * width);
    }
    for (; row < chunk.to; row += step) {
        const bool last = row + step >= chunk.to;
        const long long after = (row + step) * width;
        if constexpr (NEXT == IN_REGISTERS) {
            Resident<K, V> next(team, width), next_cotangent(team, width);
            if (!last) {
                next.read(x + after);
                next_cotangent.read(dy + after);
            }
            pull_back<V>(team, held, cotangent, gain, dx + row * width, flags, eps, share);
            held = next;
            cotangent = next_cotangent;
        } else {
            if (NEXT == IN_CACHE && !last && team.lane() == 0) {
                prefetch(x + after, width);
                prefetch(dy + after, width);
            }
            pull_back<V>(team, held, cotangent, gain, dx + row * width, flags, eps, share);
            if (!last) {
                held.read(x + after);
                cotangent.read(dy + after);
            }
        }
    }
}

// One chunk a block; LANES threads hold a row at a time and add up their share in registers. The teams of a warp are
// merged by exchanges, the warps in turn.
template <int LANES, int K, int V, Next NEXT, class Gain>
__device__ __forceinline__ void backward_warps(BACKWARD_SIGNATURE) {
    __shared__ Real merged[2][LANES * K * V];
    Warp<LANES> team;
    const Chunk chunk(group_rows, chunk_rows);
    const Factors<Gain> factors(team, width, gain ? gain + chunk.group * width : gain, flags & ONE_PLUS);
    const int teams = blockDim.x / LANES, centred = flags & CENTRED;
    Real dgain[K][V], dbias[K][V];
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
        for (int v = 0; v < V; ++v) dgain[k][v] = dbias[k][v] = 0;
    pull_back_rows<K, V, NEXT>(team, x, factors, dy, dx, chunk.from + int(threadIdx.x) / LANES, teams, chunk, width, flags, eps,
                               [&](int k, int, const Real(&d)[V], const Real(&z)[V]) {
#pragma unroll
                                   for (int v = 0; v < V; ++v) {
                                       dgain[k][v] = fma(d[v], z[v], dgain[k][v]);
                                       dbias[k][v] += d[v];
                                   }
                               });
    __syncwarp();
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2)
#pragma unroll
        for (int k = 0; k < K; ++k)
#pragma unroll
            for (int v = 0; v < V; ++v) {
                dgain[k][v] += __shfl_xor_sync(~0u, dgain[k][v], apart);
                dbias[k][v] += __shfl_xor_sync(~0u, dbias[k][v], apart);
            }
    for (int warp = 0; warp < int(blockDim.x) / 32; ++warp) {
        if (int(threadIdx.x) / 32 == warp && threadIdx.x % 32 < LANES) {
#pragma unroll
            for (int k = 0; k < K; ++k)
#pragma unroll
                for (int v = 0; v < V; ++v) {
                    const int at = (k * LANES + team.lane()) * V + v;
                    merged[0][at] = warp ? merged[0][at] + dgain[k][v] : dgain[k][v];
                    merged[1][at] = warp ? merged[1][at] + dbias[k][v] : dbias[k][v];
                }
        }
        __syncthreads();
    }
    Real *const strip = strips + (long long)blockIdx.x * (centred ? 2 : 1) * width;
    for (int at = threadIdx.x; at < width; at += blockDim.x) {
        strip[at] = merged[0][at];
        if (centred) strip[width + at] = merged[1][at];
    }
}

// A thread's share of dgain and dbias, of its own columns: in registers, or in two rows of shared memory.
template <int K, int V> struct RegisterSums {
    static constexpr int ROWS = 0;
    Real dgain[K][V], dbias[K][V];

    __device__ __forceinline__ RegisterSums(void *, int) {
#pragma unroll
        for (int k = 0; k < K; ++k)
#pragma unroll
            for (int v = 0; v < V; ++v) dgain[k][v] = dbias[k][v] = 0;
    }

    __device__ __forceinline__ void clear(int) {}

    __device__ __forceinline__ void add(int k, int, const Real (&d)[V], const Real (&z)[V], bool) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            dgain[k][v] = fma(d[v], z[v], dgain[k][v]);
            dbias[k][v] += d[v];
        }
    }

    __device__ __forceinline__ void copy(int k, int at, Real *strip, int width, bool centred) const {
        copy_pieces<V>(dgain[k], strip + at);
        if (centred) copy_pieces<V>(dbias[k], strip + width + at);
    }
};

template <int V> struct SharedSums {
    static constexpr int ROWS = 2;
    Columns<V> dgain, dbias;

    __device__ __forceinline__ SharedSums(unsigned char *from, int width)
        : dgain(from, width), dbias(from + width * sizeof(Real), width) {}

    __device__ __forceinline__ void clear(int at) {
        const Real zeros[V] = {};
        dgain.set(at, zeros);
        dbias.set(at, zeros);
    }

    __device__ __forceinline__ void add(int k, int at, const Real (&d)[V], const Real (&z)[V], bool centred) {
        Real sums[V];
        dgain.at(k, at, sums);
#pragma unroll
        for (int v = 0; v < V; ++v) sums[v] = fma(d[v], z[v], sums[v]);
        dgain.set(at, sums);
        if (!centred) return;
        dbias.at(k, at, sums);
#pragma unroll
        for (int v = 0; v < V; ++v) sums[v] += d[v];
        dbias.set(at, sums);
    }

    __device__ __forceinline__ void copy(int k, int at, Real *strip, int width, bool centred) const {
        Real sums[V];
        dgain.at(k, at, sums);
        copy_pieces<V>(sums, strip + at);
        if (!centred) return;
        dbias.at(k, at, sums);
        copy_pieces<V>(sums, strip + width + at);
    }
};

// One chunk a block, a row after the other. The factors lie in a row of shared memory after the sums.
template <int K, int V, Next NEXT, class Sums, int SIZE = 0>
__device__ __forceinline__ void backward_block(BACKWARD_SIGNATURE) {
    Sums sums(dynamic_shared, width);
    const Columns<V> factors(dynamic_shared + Sums::ROWS * width * sizeof(Real), width);
    BLOCK_TEAM(team, SIZE);
    const Chunk chunk(group_rows, chunk_rows);
    const bool centred = flags & CENTRED;
    const Factors<Distant<V>> own(team, width, gain ? gain + chunk.group * width : gain, flags & ONE_PLUS);
    const Resident<K, V> columns(team, width);
    columns.each([&](int k, int at, const Vector<V> &) {
        Real factor[V];
        own.at(k, at, factor);
        factors.set(at, factor);
        sums.clear(at);
    });
    pull_back_rows<K, V, NEXT>(
        team, x, factors, dy, dx, chunk.from, 1, chunk, width, flags, eps,
        [&](int k, int at, const Real(&d)[V], const Real(&z)[V]) { sums.add(k, at, d, z, centred); });
    Real *const strip = strips + (long long)blockIdx.x * (centred ? 2 : 1) * width;
    columns.each([&](int k, int at, const Vector<V> &) { sums.copy(k, at, strip, width, centred); });
}

// As backward_block for rows too long for registers; the strip itself is the place of the sums.
template <int V> __device__ __forceinline__ void backward_distant(BACKWARD_SIGNATURE) {
    BLOCK_TEAM(team, 0);
    const Chunk chunk(group_rows, chunk_rows);
    const Factors<Distant<V>> factors(team, width, gain ? gain + chunk.group * width : gain, flags & ONE_PLUS);
    const int centred = flags & CENTRED;
    Real *const strip = strips + (long long)blockIdx.x * (centred ? 2 : 1) * width;
    Distant<V> held(team, width), cotangent(team, width);
    for (long long row = chunk.from; row < chunk.to; ++row) {
        held.read(x + row * width);
        cotangent.read(dy + row * width);
        pull_back<V>(team, held, cotangent, factors, dx + row * width, flags, eps,
                     [&](int, int at, const Real(&d)[V], const Real(&z)[V]) {
#pragma unroll
                         for (int v = 0; v < V; ++v) {
                             Real &gained = strip[at + v];
                             gained = row > chunk.from ? fma(d[v], z[v], gained) : d[v] * z[v];
                             if (!centred) continue;
                             Real &shifted = strip[width + at + v];
                             shifted = row > chunk.from ? shifted + d[v] : d[v];
                         }
                     });
    }
}

// The sum of up to FAN strips of one column, neighbours first.
__device__ __forceinline__ Real tree(const Real *__restrict__ from, long long apart, long long count) {
    Real sums[FAN];
#pragma unroll
    for (int i = 0; i < FAN; ++i) sums[i] = i < count ? from[i * apart] : Real(0);
#pragma unroll
    for (int step = 1; step < FAN; step *= 2)
#pragma unroll
        for (int i = 0; i < FAN; i += 2 * step) sums[i] += sums[i + step];
    return sums[0];
}

// FAN strips become one: (groups, count, columns) to (groups, ceil(count/FAN), columns).
extern "C" __global__ void __launch_bounds__(256)
    merge_strips(const Real *__restrict__ strips, Real *__restrict__ out, long long groups, long long count,
                 long long columns) {
    const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x, left = (count + FAN - 1) / FAN;
    if (index >= groups * left * columns) return;
    const long long column = index % columns, from = index / columns % left * FAN, group = index / columns / left;
    out[index] = tree(strips + (group * count + from) * columns + column, columns, count - from);
}

// At most FAN strips a group to dgain (groups, width), and dbias (groups, width) after it: zeros where a strip has one part.
extern "C" __global__ void __launch_bounds__(256)
    finish_strips(const Real *__restrict__ strips, Stored *__restrict__ out, long long groups, long long count, int width,
                  int parts) {
    const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= 2 * groups * width) return;
    const long long column = index % width, group = index / width % groups, part = index / width / groups;
    const Real sum = part < parts ? tree(strips + (group * count * parts + part) * width + column, (long long)parts * width, count)
                                  : Real(0);
    narrow(sum, out[index]);
}

// `f` and `b`: blocks that a multiprocessor runs at once, so that enough loads are under way to use all of the memory's speed.
#define FORWARD_WARPS(kind, lanes, k, v, ahead, f)                                                                     \
    extern "C" __global__ void __launch_bounds__(256, f) forward_##kind##_##lanes##_##k(FORWARD_SIGNATURE) {           \
        forward_warps<lanes, k, v, ahead>(FORWARD_ARGUMENTS);                                                          \
    }
#define BACKWARD_WARPS(kind, lanes, k, v, next, gain, b)                                                               \
    extern "C" __global__ void __launch_bounds__(128, b) backward_##kind##_##lanes##_##k(BACKWARD_SIGNATURE) {         \
        backward_warps<lanes, k, v, next, gain>(BACKWARD_ARGUMENTS);                                                   \
    }
#define FORWARD_BLOCK(name, threads, v, row)                                                                           \
    extern "C" __global__ void __launch_bounds__(threads, 1024 / threads) forward_##name(FORWARD_SIGNATURE) {          \
        forward_block<v, row>(FORWARD_ARGUMENTS);                                                                      \
    }
#define BACKWARD_BLOCK(name, body)                                                                                     \
    extern "C" __global__ void __launch_bounds__(512) backward_##name(BACKWARD_SIGNATURE) { body(BACKWARD_ARGUMENTS); }
#define COMMA ,

// What plan.rs chooses from.
FORWARD_WARPS(vector, 4, 2, FULL, 2, 4)
FORWARD_WARPS(vector, 8, 2, FULL, 2, 4)
FORWARD_WARPS(vector, 16, 2, FULL, 2, 4)
FORWARD_WARPS(vector, 32, 2, FULL, 2, 4)
FORWARD_WARPS(vector, 32, 3, FULL, 1, 4)
FORWARD_WARPS(vector, 32, 4, FULL, 1, 4)
FORWARD_WARPS(vector, 32, 6, FULL, 1, 3)
FORWARD_WARPS(vector, 32, 8, FULL, 1, 3)
FORWARD_WARPS(scalar, 32, 4, 1, 1, 4)
FORWARD_WARPS(scalar, 32, 16, 1, 1, 2)
FORWARD_WARPS(scalar, 32, 32, 1, 1, 2)
FORWARD_BLOCK(vector_block, 512, FULL, Resident<8 COMMA FULL>)
FORWARD_BLOCK(vector_block_wide, 1024, FULL, Resident<8 COMMA FULL>)
FORWARD_BLOCK(vector_distant, 512, FULL, Distant<FULL>)
FORWARD_BLOCK(scalar_block, 512, 1, Resident<16 COMMA 1>)
FORWARD_BLOCK(scalar_distant, 512, 1, Distant<1>)
#if BYTES == 2
BACKWARD_WARPS(vector, 4, 2, FULL, IN_REGISTERS, Resident<2 COMMA FULL>, 4)
BACKWARD_WARPS(vector, 8, 2, FULL, IN_REGISTERS, Resident<2 COMMA FULL>, 4)
BACKWARD_WARPS(vector, 16, 2, FULL, IN_REGISTERS, Resident<2 COMMA FULL>, 4)
BACKWARD_BLOCK(vector_block, (backward_block<2, FULL, IN_REGISTERS, RegisterSums<2, FULL>>))
BACKWARD_BLOCK(vector_block_wide, (backward_block<4, FULL, IN_CACHE, SharedSums<FULL>, 512>))
#else
BACKWARD_WARPS(vector, 4, 2, FULL, IN_MEMORY, Resident<2 COMMA FULL>, 5)
BACKWARD_WARPS(vector, 8, 2, FULL, IN_MEMORY, Resident<2 COMMA FULL>, 5)
BACKWARD_WARPS(vector, 16, 2, FULL, IN_MEMORY, Resident<2 COMMA FULL>, 5)
BACKWARD_WARPS(vector, 32, 2, FULL, IN_MEMORY, Resident<2 COMMA FULL>, 5)
BACKWARD_WARPS(vector, 32, 3, FULL, IN_MEMORY, Resident<3 COMMA FULL>, 4)
BACKWARD_WARPS(vector, 32, 4, FULL, IN_MEMORY, Resident<4 COMMA FULL>, 4)
BACKWARD_WARPS(vector, 32, 6, FULL, IN_MEMORY, Distant<FULL>, 3)
BACKWARD_WARPS(vector, 32, 8, FULL, IN_MEMORY, Distant<FULL>, 3)
BACKWARD_BLOCK(vector_block, (backward_block<4, FULL, IN_REGISTERS, SharedSums<FULL>>))
BACKWARD_BLOCK(vector_block_wide, (backward_block<8, FULL, IN_CACHE, SharedSums<FULL>, 512>))
#endif
BACKWARD_BLOCK(vector_distant, backward_distant<FULL>)
BACKWARD_WARPS(scalar, 32, 4, 1, IN_MEMORY, Resident<4 COMMA 1>, 6)
BACKWARD_WARPS(scalar, 32, 16, 1, IN_MEMORY, Distant<1>, 2)
BACKWARD_WARPS(scalar, 32, 32, 1, IN_MEMORY, Distant<1>, 2)
BACKWARD_BLOCK(scalar_block, (backward_block<16, 1, IN_MEMORY, SharedSums<1>>))
BACKWARD_BLOCK(scalar_distant, backward_distant<1>)
