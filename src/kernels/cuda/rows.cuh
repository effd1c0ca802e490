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
// Vectors of a row that a thread holds at most: 32 registers of a row.
constexpr int MOST = BYTES == 2 ? 4 : 8;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

// One rounding to storage, to nearest even.
__device__ __forceinline__ void narrow(float x, float &out) { out = x; }
__device__ __forceinline__ void narrow(double x, double &out) { out = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16 &out) { out = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(float x, __half &out) { out = __float2half_rn(x); }

__device__ __forceinline__ Real rounded(Real x) {
    Stored stored;
    narrow(x, stored);
    return widen(stored);
}

// V neighbours, read and written at once.
template <int V> struct alignas(V * BYTES) Vector {
    Stored at[V];
};

template <int V> __device__ __forceinline__ Vector<V> load(const Stored *from) {
    return *reinterpret_cast<const Vector<V> *>(from);
}

template <int V> __device__ __forceinline__ void store(const Vector<V> &vector, Stored *to) {
    *reinterpret_cast<Vector<V> *>(to) = vector;
}

template <int V> __device__ __forceinline__ Vector<V> zeros() {
    Vector<V> vector;
#pragma unroll
    for (int v = 0; v < V; ++v) narrow(Real(0), vector.at[v]);
    return vector;
}

// Asks for a line of memory that is read soon.
__device__ __forceinline__ void ask(const Stored *address) {
#ifndef HOST_SHIM
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// LANES neighbouring threads of one warp. A butterfly of exchanges leaves the same bits in each of them.
template <int LANES> struct Warp {
    __device__ __forceinline__ int lane() const { return threadIdx.x % LANES; }
    __device__ __forceinline__ int size() const { return LANES; }

    // Only these threads meet: their neighbours in the warp may take another way.
    __device__ __forceinline__ unsigned members() const {
        return LANES == 32 ? ~0u : ((1u << (LANES % 32)) - 1u) << (threadIdx.x % 32 / LANES * LANES);
    }

    template <int M> __device__ __forceinline__ void sum(Real (&values)[M]) const {
#pragma unroll
        for (int apart = LANES / 2; apart > 0; apart /= 2)
#pragma unroll
            for (int m = 0; m < M; ++m) values[m] += __shfl_xor_sync(members(), values[m], apart);
    }

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

// All threads of the block, whole warps. The buffer alternates: who writes it again has met a barrier after the last read.
struct Block {
    Real (*shared)[2][32];
    int turn;

    __device__ __forceinline__ int lane() const { return threadIdx.x; }
    __device__ __forceinline__ int size() const { return blockDim.x; }

    template <int M> __device__ __forceinline__ void sum(Real (&values)[M]) {
        Warp<32>().sum(values);
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < M; ++m)
            if (lane == 0) shared[turn][m][warp] = values[m];
        __syncthreads();
#pragma unroll
        for (int m = 0; m < M; ++m) values[m] = lane < int(blockDim.x) / 32 ? shared[turn][m][lane] : Real(0);
        Warp<32>().sum(values);
        turn ^= 1;
    }

    __device__ __forceinline__ Real largest(Real value) {
        value = Warp<32>().largest(value);
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        if (lane == 0) shared[turn][0][warp] = value;
        __syncthreads();
        value = shared[turn][0][lane < int(blockDim.x) / 32 ? lane : 0];
        turn ^= 1;
        return Warp<32>().largest(value);
    }
};

#define BLOCK_TEAM(name) \
    __shared__ Real name##_shared[2][2][32]; \
    Block name = {name##_shared, 0}

// A row in the registers of its threads, K vectors of V elements each; a thread's k-th vector is the (k size + lane)-th.
template <int K, int V> struct Resident {
    Vector<V> held[K];
    int first, step, width;

    template <class Team> __device__ __forceinline__ Resident(const Team &team, int width)
        : first(team.lane() * V), step(team.size() * V), width(width) {}
    __device__ __forceinline__ Resident() {}

    __device__ __forceinline__ void read(const Stored *row) {
#pragma unroll
        for (int k = 0; k < K; ++k) held[k] = first + k * step < width ? load<V>(row + first + k * step) : zeros<V>();
    }

    // f(k, place, vector) for each vector of this thread, in the order of their places.
    template <class F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) f(k, first + k * step, held[k]);
    }

    template <class F> __device__ __forceinline__ void both(const Resident &other, F f) const {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) f(k, first + k * step, held[k], other.held[k]);
    }

    // The sum with another row, rounded to storage: what this row holds from now on.
    __device__ __forceinline__ void add(const Stored *other, Stored *sum) {
#pragma unroll
        for (int k = 0; k < K; ++k)
            if (first + k * step < width) {
                const Vector<V> more = load<V>(other + first + k * step);
#pragma unroll
                for (int v = 0; v < V; ++v) narrow(widen(held[k].at[v]) + widen(more.at[v]), held[k].at[v]);
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

    template <class F> __device__ __forceinline__ void each(F f) const {
        for (int at = first; at < width; at += step) f(0, at, load<V>(row + at));
    }

    template <class F> __device__ __forceinline__ void both(const Distant &other, F f) const {
        for (int at = first; at < width; at += step) f(0, at, load<V>(row + at), load<V>(other.row + at));
    }

    __device__ __forceinline__ void add(const Stored *other, Stored *sum) {
        for (int at = first; at < width; at += step) {
            const Vector<V> one = load<V>(row + at), more = load<V>(other + at);
            Vector<V> both;
#pragma unroll
            for (int v = 0; v < V; ++v) narrow(widen(one.at[v]) + widen(more.at[v]), both.at[v]);
            store<V>(both, sum + at);
        }
        row = sum;
    }
};
