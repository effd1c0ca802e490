// Activations and their slopes, element by element: ../activation.rs. relu 0, gelu 1, silu 2.
#include "rows.cuh"

constexpr double ROOT_HALF = 0.70710678118654752440, INVERSE_ROOT_TWO_PI = 0.39894228040143267794;

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float error_function(float x) { return erff(x); }
__device__ __forceinline__ double error_function(double x) { return erf(x); }

// The normal distribution function.
__device__ __forceinline__ Real below(Real h) { return Real(0.5) * (Real(1) + error_function(h * Real(ROOT_HALF))); }

__device__ __forceinline__ Real sigmoid(Real h) { return Real(1) / (Real(1) + exponential(-h)); }

__device__ __forceinline__ Real value(int curve, Real h) {
    if (curve == 0) return h <= 0 ? Real(0) : h;
    return curve == 1 ? h * below(h) : h / (Real(1) + exponential(-h));
}

__device__ __forceinline__ Real slope(int curve, Real h) {
    // NaN stays NaN.
    if (curve == 0) return h > 0 ? Real(1) : h <= 0 ? Real(0) : h;
    if (curve == 1) return fma(h, exponential(Real(-0.5) * h * h) * Real(INVERSE_ROOT_TWO_PI), below(h));
    const Real s = sigmoid(h);
    return s * fma(h, Real(1) - s, Real(1));
}

template <int V>
__device__ __forceinline__ void forward(const Stored *__restrict__ h, Stored *__restrict__ y, long long vectors, int curve) {
    const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (at >= vectors * V) return;
    const Vector<V> x = load<V>(h + at);
    Real out[V];
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = value(curve, x[v]);
    store<V>(stored<V>(out), y + at);
}

template <int V>
__device__ __forceinline__ void backward(const Stored *__restrict__ h, const Stored *__restrict__ dy,
                                         Stored *__restrict__ dh, long long vectors, int curve) {
    const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (at >= vectors * V) return;
    const Vector<V> x = load<V>(h + at), d = load<V>(dy + at);
    Real out[V];
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = d[v] * slope(curve, x[v]);
    store<V>(stored<V>(out), dh + at);
}

#define CURVES(kind, v)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        curve_##kind(const Stored *h, Stored *y, long long vectors, int curve) {                                       \
        forward<v>(h, y, vectors, curve);                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        curve_backward_##kind(const Stored *h, const Stored *dy, Stored *dh, long long vectors, int curve) {           \
        backward<v>(h, dy, dh, vectors, curve);                                                                        \
    }

CURVES(vector, FULL)
CURVES(scalar, 1)
