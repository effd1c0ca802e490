// softmax over the last axis, and back: ../softmax.rs. Teams and rows as in norm.cu.
#include "rows.cuh"

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

#define SOFTMAX_SIGNATURE const Stored *__restrict__ x, Stored *__restrict__ y, long long rows, int width
#define BACKWARD_SIGNATURE                                                                                             \
    const Stored *__restrict__ y, const Stored *__restrict__ dy, Stored *__restrict__ dx, long long rows, int width

template <int V, class Team, class Row> __device__ __forceinline__ void softmax_row(Team &team, const Row &row, Stored *y) {
    Real largest = -Real(INFINITY);
    row.each([&](int, int, const Vector<V> &x) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            // A NaN does not compare and reaches the sum below by itself.
            const Real value = x[v];
            largest = value > largest ? value : largest;
        }
    });
    largest = team.largest(largest);
    Real total[1] = {0};
    row.each([&](int, int, const Vector<V> &x) {
#pragma unroll
        for (int v = 0; v < V; ++v) total[0] += exponential(x[v] - largest);
    });
    team.sum(total);
    const Real over = Real(1) / total[0];
    row.each([&](int, int at, const Vector<V> &x) {
        Real out[V];
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = exponential(x[v] - largest) * over;
        store<V>(stored<V>(out), y + at);
    });
}

// dx = y (dy - sum(y dy)).
template <int V, class Team, class Row>
__device__ __forceinline__ void pull_back_row(Team &team, const Row &y, const Row &dy, Stored *dx) {
    Real along[1] = {0};
    y.each([&](int k, int at, const Vector<V> &y) {
        const Vector<V> d = dy.at(k, at);
#pragma unroll
        for (int v = 0; v < V; ++v) along[0] = fma(y[v], d[v], along[0]);
    });
    team.sum(along);
    y.each([&](int k, int at, const Vector<V> &y) {
        const Vector<V> d = dy.at(k, at);
        Real out[V];
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = y[v] * (d[v] - along[0]);
        store<V>(stored<V>(out), dx + at);
    });
}

template <int LANES, int K, int V> __device__ __forceinline__ void softmax_warps(SOFTMAX_SIGNATURE) {
    Warp<LANES> team;
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    if (row >= rows) return;
    Resident<K, V> held(team, width);
    held.read(x + row * width);
    softmax_row<V>(team, held, y + row * width);
}

template <int V, class Row> __device__ __forceinline__ void softmax_block(SOFTMAX_SIGNATURE) {
    BLOCK_TEAM(team, 0);
    Row held(team, width);
    held.read(x + (long long)blockIdx.x * width);
    softmax_row<V>(team, held, y + (long long)blockIdx.x * width);
}

template <int LANES, int K, int V> __device__ __forceinline__ void backward_warps(BACKWARD_SIGNATURE) {
    Warp<LANES> team;
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    if (row >= rows) return;
    Resident<K, V> held(team, width), cotangent(team, width);
    held.read(y + row * width);
    cotangent.read(dy + row * width);
    pull_back_row<V>(team, held, cotangent, dx + row * width);
}

template <int V, class Row> __device__ __forceinline__ void backward_block(BACKWARD_SIGNATURE) {
    BLOCK_TEAM(team, 0);
    Row held(team, width), cotangent(team, width);
    held.read(y + (long long)blockIdx.x * width);
    cotangent.read(dy + (long long)blockIdx.x * width);
    pull_back_row<V>(team, held, cotangent, dx + (long long)blockIdx.x * width);
}

#define WARPS(kind, lanes, k, v)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256) softmax_##kind##_##lanes##_##k(SOFTMAX_SIGNATURE) {              \
        softmax_warps<lanes, k, v>(x, y, rows, width);                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) softmax_backward_##kind##_##lanes##_##k(BACKWARD_SIGNATURE) {    \
        backward_warps<lanes, k, v>(y, dy, dx, rows, width);                                                           \
    }
#define BLOCKS(name, v, row)                                                                                           \
    extern "C" __global__ void __launch_bounds__(512, 2) softmax_##name(SOFTMAX_SIGNATURE) {                           \
        softmax_block<v, row>(x, y, rows, width);                                                                      \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(512) softmax_backward_##name(BACKWARD_SIGNATURE) {                    \
        backward_block<v, row>(y, dy, dx, rows, width);                                                                \
    }
#define COMMA ,

// What plan.rs chooses from.
WARPS(vector, 4, 2, FULL)
WARPS(vector, 8, 2, FULL)
WARPS(vector, 16, 2, FULL)
WARPS(vector, 32, 2, FULL)
WARPS(vector, 32, 3, FULL)
WARPS(vector, 32, 4, FULL)
WARPS(vector, 32, 6, FULL)
WARPS(vector, 32, 8, FULL)
BLOCKS(vector_block, FULL, Resident<8 COMMA FULL>)
BLOCKS(vector_distant, FULL, Distant<FULL>)
WARPS(scalar, 32, 4, 1)
WARPS(scalar, 32, 16, 1)
WARPS(scalar, 32, 32, 1)
BLOCKS(scalar_block, 1, Resident<16 COMMA 1>)
BLOCKS(scalar_distant, 1, Distant<1>)
