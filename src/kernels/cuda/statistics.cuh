// What a row is divided by: the mean and the squares about it, corrected as in ../statistics.rs, but in one sweep where the mean
// is small beside the spread.
#pragma once
#include "rows.cuh"

// 2^-82 and 2^-949: a mean square below may have lost squares to underflow.
__device__ __forceinline__ Real tiny() { return sizeof(Real) == 4 ? Real(0x1p-82) : Real(0x1p-949); }
__device__ __forceinline__ Real largest_finite() { return sizeof(Real) == 4 ? Real(0x1.fffffep127) : Real(0x1.fffffffffffffp1023); }
constexpr int EXPONENT = sizeof(Real) == 4 ? 126 : 1022;

// 1/sqrt(v) within 2 roundoffs. The hardware's estimate is off by up to 2 units; a Newton step leaves 1.5 roundoffs.
__device__ __forceinline__ float inverse_root(float v) {
    const float estimate = rsqrtf(v);
    const float off = fmaf(-v * estimate, estimate, 1.0f);
    return fmaf(0.5f * estimate, off, estimate);
}
__device__ __forceinline__ double inverse_root(double v) { return 1.0 / sqrt(v); }

// z = (scale x - mean) inverse - shift; scale is a power of two, 1 unless squares over- or underflow.
struct Statistics {
    Real scale, mean, shift, inverse;

    __device__ __forceinline__ Real normalized(Real x) const { return fma(fma(x, scale, -mean), inverse, -shift); }
};

__device__ __forceinline__ int exponent_of(double x) {
    const int exponent = int((__double_as_longlong(x) >> 52) & 0x7ff);
    return (exponent > 1 ? exponent : 1) - 1023;
}

// The power of two that brings the larger of the row's largest magnitude and sqrt(eps) near 1; 0 for a row with NaN or inf.
template <class Team, class Row>
__device__ __forceinline__ double rescaling(Team &team, const Row &row, double eps) {
    Real magnitude = 0;
    row.each([&](int, int, const auto &x) {
        for (int v = 0; v < x.count; ++v) {
            const Real m = fabs(x[v]);
            // What is not finite is larger than every number.
            if (!(m <= magnitude)) magnitude = m <= largest_finite() ? m : Real(INFINITY);
        }
    });
    magnitude = team.largest(magnitude);
    if (magnitude > largest_finite()) return 0;
    const int of_largest = exponent_of(double(magnitude)), of_root = eps > 0 ? exponent_of(eps) >> 1 : of_largest;
    int exponent = of_largest > of_root ? of_largest : of_root;
    exponent = exponent < -EXPONENT ? -EXPONENT : exponent > EXPONENT - 1 ? EXPONENT - 1 : exponent;
    return __longlong_as_double((long long)(1023 - exponent - 1) << 52);
}

// What a sweep sums besides, of the deviations c: nothing in the forward pass.
struct NoSums {
    static constexpr int COUNT = 0;
    // What the variance with eps must lie within for the sums not to under- or overflow.
    static __device__ __forceinline__ Real least() { return 0; }
    static __device__ __forceinline__ Real most() { return largest_finite(); }

    template <int V> __device__ __forceinline__ void add(int, int, const Real (&)[V], Real *) const {}
};

// With `more` summed about the same mean as the squares, `scale x - s.mean`.
template <class Team, class Row, class More>
__device__ __forceinline__ Statistics statistics(Team &team, const Row &row, bool centred, double eps, const More &more,
                                                 Real *sums) {
    const Real over = Real(1) / Real(row.width);
    Real scale = 1, added = Real(eps);
    for (bool rescaled = false;; rescaled = true) {
        Real mean = 0, residual = 0, squares;
        Real about[2 + More::COUNT];
        // About 0, which is near enough to the mean of most rows; else about the mean, which is moved twice at most. A move is
        // made where the correction would lose half a bit about 0, two bits about a mean.
        for (int moves = 0;; ++moves) {
#pragma unroll
            for (int m = 0; m < 2 + More::COUNT; ++m) about[m] = 0;
            row.each([&](int k, int at, const auto &x) {
                Real c[x.count];
#pragma unroll
                for (int v = 0; v < x.count; ++v) {
                    c[v] = fma(x[v], scale, -mean);
                    if (centred) about[0] += c[v];
                    about[1] = fma(c[v], c[v], about[1]);
                }
                more.add(k, at, c, about + 2);
            });
            team.sum(about);
            residual = about[0] * over;
            const Real lost = about[0] * residual;
            squares = about[1] - lost;
            if (moves == 3 || !(lost > (moves ? Real(0.75) : Real(0.25)) * about[1])) break;
            mean += residual;
        }
#pragma unroll
        for (int m = 0; m < More::COUNT; ++m) sums[m] = about[2 + m];
        const Real variance = squares * over, v = variance + added;
        if (rescaled || (variance >= tiny() && v >= More::least() && v <= More::most())) {
            // A NaN is not below 0 and stays.
            const Real inverse = v <= 0 ? Real(0) : inverse_root(v);
            return {scale, mean, residual * inverse, inverse};
        }
        const double by = rescaling(team, row, eps);
        if (by == 0) return {Real(1), Real(NAN), Real(NAN), Real(NAN)};
        scale = Real(by);
        added = Real(eps * by * by);
    }
}

template <class Team, class Row>
__device__ __forceinline__ Statistics statistics(Team &team, const Row &row, bool centred, double eps) {
    return statistics(team, row, centred, eps, NoSums(), static_cast<Real *>(nullptr));
}
