// Rows of a tensor and the threads that hold one together.
//
// Compiled once for each storage type: STORAGE is float, double, __nv_bfloat16 or __half, BYTES its size. Statistics are in
// Real: float, and double for double. Every product that is added is a written fma, and nvcc is told to contract
// nothing else (build.rs), so that the host shim (properties/cuda/shim.h) gives the device's bits.
#pragma once
#ifndef HOST_SHIM
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

typedef STORAGE Stored;
template <class T> struct RealOf { typedef float type; };
template <> struct RealOf<double> { typedef double type; };
typedef RealOf<Stored>::type Real;

// Elements of a 16-byte access.
constexpr int FULL = 16 / BYTES;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

// One rounding to storage, to nearest even.
__device__ __forceinline__ void narrow(float x, float &out) { out = x; }
__device__ __forceinline__ void narrow(double x, double &out) { out = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16 &out) { out = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(float x, __half &out) { out = __float2half_rn(x); }

// V neighbours, read and written at once. Two of 16 bits share a register, so that a row takes half as many.
template <int V, bool PAIRS = BYTES == 2 && V % 2 == 0> struct alignas(V * BYTES) Vector {
    static constexpr int count = V;
    Stored at[V];

    __device__ __forceinline__ Real operator[](int v) const { return widen(at[v]); }
    __device__ __forceinline__ void set(const Real (&values)[V]) {
#pragma unroll
        for (int v = 0; v < V; ++v) narrow(values[v], at[v]);
    }
};

__device__ __forceinline__ float low(unsigned pair, __nv_bfloat16) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(unsigned pair, __nv_bfloat16) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float low(unsigned pair, __half) { return __half2float(__ushort_as_half(pair & 0xffff)); }
__device__ __forceinline__ float high(unsigned pair, __half) { return __half2float(__ushort_as_half(pair >> 16)); }
// Both are rounded by one instruction.
__device__ __forceinline__ unsigned pair(float low, float high, __nv_bfloat16) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return __bfloat16_as_ushort(both.x) | (unsigned)__bfloat16_as_ushort(both.y) << 16;
}
__device__ __forceinline__ unsigned pair(float low, float high, __half) {
    const __half2 both = __floats2half2_rn(low, high);
    return __half_as_ushort(both.x) | (unsigned)__half_as_ushort(both.y) << 16;
}

template <int V> struct alignas(V * BYTES) Vector<V, true> {
    static constexpr int count = V;
    unsigned pairs[V / 2];

    __device__ __forceinline__ Real operator[](int v) const {
        return v % 2 ? high(pairs[v / 2], Stored()) : low(pairs[v / 2], Stored());
    }
    __device__ __forceinline__ void set(const Real (&values)[V]) {
#pragma unroll
        for (int v = 0; v < V; v += 2) pairs[v / 2] = pair(values[v], values[v + 1], Stored());
    }
};

template <int V> __device__ __forceinline__ Vector<V> load(const Stored *from) {
    return *reinterpret_cast<const Vector<V> *>(from);
}

template <int V> __device__ __forceinline__ void store(const Vector<V> &vector, Stored *to) {
    *reinterpret_cast<Vector<V> *>(to) = vector;
}

template <int V> __device__ __forceinline__ Vector<V> stored(const Real (&values)[V]) {
    Vector<V> vector;
    vector.set(values);
    return vector;
}

template <int V> __device__ __forceinline__ Vector<V> filled(Real value) {
    Real values[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = value;
    return stored<V>(values);
}

// Rounded to storage.
template <int V> __device__ __forceinline__ Vector<V> sum_of(const Vector<V> &one, const Vector<V> &other) {
    Real sums[V];
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v] = one[v] + other[v];
    return stored<V>(sums);
}

// LANES neighbouring threads of one warp.
template <int LANES> struct Warp {
    __device__ __forceinline__ int lane() const { return threadIdx.x % LANES; }
    __device__ __forceinline__ int size() const { return LANES; }

    // Only these threads meet: their neighbours in the warp may take another way.
    __device__ __forceinline__ unsigned members() const {
        return LANES == 32 ? ~0u : ((1u << (LANES % 32)) - 1u) << (threadIdx.x % 32 / LANES * LANES);
    }

    // Of M sums, M a power of two, the (lane / (LANES / M))-th: each exchange halves what a lane has of them, until it has one.
    template <int M> __device__ __forceinline__ Real one_of(const Real (&values)[M]) const {
        Real left[M];
#pragma unroll
        for (int m = 0; m < M; ++m) left[m] = values[m];
        int apart = LANES / 2;
#pragma unroll
        for (int half = M / 2; half > 0; half /= 2, apart /= 2) {
            const bool upper = lane() & apart;
#pragma unroll
            for (int m = 0; m < half; ++m) {
                const Real others = upper ? left[m] : left[m + half];
                left[m] = (upper ? left[m + half] : left[m]) + __shfl_xor_sync(members(), others, apart);
            }
        }
        return part_sum<M>(left[0]);
    }

    // The sum over the LANES / M lanes that have parts of the same.
    template <int M> __device__ __forceinline__ Real part_sum(Real part) const {
#pragma unroll
        for (int apart = LANES / M / 2; apart > 0; apart /= 2) part += __shfl_xor_sync(members(), part, apart);
        return part;
    }

    // All sums for all lanes, the same bits in each.
    template <int M> __device__ __forceinline__ void share(Real one, Real (&values)[M]) const {
#pragma unroll
        for (int m = 0; m < M; ++m) values[m] = M == 1 ? one : __shfl_sync(members(), one, LANES / M * m, LANES);
    }

    template <int M> __device__ __forceinline__ void sum(Real (&values)[M]) const { share(one_of(values), values); }

    // Of numbers: a NaN must not come here.
    __device__ __forceinline__ Real largest(Real value) const {
#pragma unroll
        for (int apart = LANES / 2; apart > 0; apart /= 2) {
            Real other = __shfl_xor_sync(members(), value, apart);
            value = other > value ? other : value;
        }
        return value;
    }
};

// All threads of the block, whole warps: SIZE where it is known when it is compiled, and a thread's places are constants. The
// buffer alternates: who writes it again has met a barrier after the last read.
template <int SIZE = 0> struct Block {
    Real (*shared)[4][32];
    int turn;

    __device__ __forceinline__ int lane() const { return threadIdx.x; }
    __device__ __forceinline__ int size() const { return SIZE ? SIZE : blockDim.x; }

    template <int M> __device__ __forceinline__ void sum(Real (&values)[M]) {
        const Warp<32> warp;
        const int warps = size() / 32, lanes = 32 / M, m = warp.lane() / lanes, first = warp.lane() % lanes;
        Real one = warp.one_of(values);
        if (warps > 1) {
            if (first == 0) shared[turn][m][threadIdx.x / 32] = one;
            __syncthreads();
            one = 0;
            for (int w = first; w < warps; w += lanes) one += shared[turn][m][w];
            one = warp.part_sum<M>(one);
            turn ^= 1;
        }
        warp.share(one, values);
    }

    __device__ __forceinline__ Real largest(Real value) {
        value = Warp<32>().largest(value);
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        if (lane == 0) shared[turn][0][warp] = value;
        __syncthreads();
        value = shared[turn][0][lane < size() / 32 ? lane : 0];
        turn ^= 1;
        return Warp<32>().largest(value);
    }
};

#define BLOCK_TEAM(name, size) \
    __shared__ Real name##_shared[2][4][32]; \
    Block<size> name = {name##_shared, 0}

// Asks the memory for a row of whole 16 bytes, so that a later read finds it in the device's cache.
__device__ __forceinline__ void prefetch(const Stored *row, int width) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(row), "r"(width * BYTES));
#endif
}

// A row in the registers of its threads, K vectors of V elements each; a thread's k-th vector is the (k size + lane)-th.
template <int K, int V> struct Resident {
    Vector<V> held[K];
    int first, step, width;

    template <class Team> __device__ __forceinline__ Resident(const Team &team, int width)
        : first(team.lane() * V), step(team.size() * V), width(width) {}
    __device__ __forceinline__ Resident() {}

    __device__ __forceinline__ void read(const Stored *row) {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) held[k] = load<V>(row + first + k * step);
    }

    __device__ __forceinline__ Vector<V> at(int k, int) const { return held[k]; }

    // f(k, place, vector) for each vector of this thread, in the order of their places.
    template <class F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) f(k, first + k * step, held[k]);
    }

    // The sum with another row, rounded to storage: what this row holds from now on.
    __device__ __forceinline__ void add(const Stored *other, Stored *sum) {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) {
                held[k] = sum_of<V>(held[k], load<V>(other + first + k * step));
                store<V>(held[k], sum + first + k * step);
            }
    }
};

// A row that is too long for registers and is read again for each sweep.
template <int V> struct Distant {
    const Stored *row;
    int first, step, width;

    template <class Team> __device__ __forceinline__ Distant(const Team &team, int width)
        : row(nullptr), first(team.lane() * V), step(team.size() * V), width(width) {}

    __device__ __forceinline__ void read(const Stored *from) { row = from; }

    __device__ __forceinline__ Vector<V> at(int, int place) const { return load<V>(row + place); }

    template <class F> __device__ __forceinline__ void each(F f) const {
        for (int place = first; place < width; place += step) f(0, place, load<V>(row + place));
    }

    __device__ __forceinline__ void add(const Stored *other, Stored *sum) {
        for (int place = first; place < width; place += step)
            store<V>(sum_of<V>(load<V>(row + place), load<V>(other + place)), sum + place);
        row = sum;
    }
};

// What z is multiplied by: the gain, one and the gain, or one where there is no gain.
template <class Row> struct Factors {
    Row gain;
    bool given, one_plus;

    template <class Team> __device__ __forceinline__ Factors(const Team &team, int width, const Stored *from, bool one_plus)
        : gain(team, width), given(from != nullptr), one_plus(from && one_plus) {
        if (given) gain.read(from);
    }

    template <int V> __device__ __forceinline__ void at(int k, int place, Real (&factor)[V]) const {
        const Vector<V> gains = given ? gain.at(k, place) : filled<V>(1);
#pragma unroll
        for (int v = 0; v < V; ++v) factor[v] = gains[v];
        if (one_plus) {
#pragma unroll
            for (int v = 0; v < V; ++v) factor[v] = Real(1) + factor[v];
        }
    }
};

// To V neighbours in memory, 16 bytes at once at most.
template <int V> __device__ __forceinline__ void copy_pieces(const Real (&values)[V], Real *to) {
    constexpr int PIECE = V * sizeof(Real) > 16 ? 16 / sizeof(Real) : V;
    struct alignas(PIECE * sizeof(Real)) Piece {
        Real at[PIECE];
    };
#pragma unroll
    for (int p = 0; p < V; p += PIECE) {
        Piece piece;
#pragma unroll
        for (int v = 0; v < PIECE; ++v) piece.at[v] = values[p + v];
        *reinterpret_cast<Piece *>(to + p) = piece;
    }
}

// A row of Real in shared memory, in pieces of 16 bytes at most, so that neighbouring threads meet different banks.
template <int V> struct Columns {
    static constexpr int PIECE = V * sizeof(Real) > 16 ? 16 / sizeof(Real) : V;
    struct alignas(PIECE * sizeof(Real)) Piece {
        Real at[PIECE];
    };
    Piece *pieces;
    int vectors;

    __device__ __forceinline__ Columns(void *from, int width) : pieces(reinterpret_cast<Piece *>(from)), vectors(width / V) {}

    __device__ __forceinline__ void at(int, int place, Real (&values)[V]) const {
#pragma unroll
        for (int p = 0; p < V / PIECE; ++p) {
            const Piece piece = pieces[place / V + p * vectors];
#pragma unroll
            for (int v = 0; v < PIECE; ++v) values[p * PIECE + v] = piece.at[v];
        }
    }

    __device__ __forceinline__ void set(int place, const Real (&values)[V]) const {
#pragma unroll
        for (int p = 0; p < V / PIECE; ++p) {
            Piece piece;
#pragma unroll
            for (int v = 0; v < PIECE; ++v) piece.at[v] = values[p * PIECE + v];
            pieces[place / V + p * vectors] = piece;
        }
    }
};
