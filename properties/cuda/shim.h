// Runs CUDA kernels on the CPU for tests: every thread of a block is a fiber, blocks run one after another.
//
// Covers threadIdx & co, static and dynamic __shared__, __syncthreads, shuffles among any aligned part of a warp, bf16 and f16. The
// fibers of a block take turns in ascending or descending order: a missing barrier gives other bits in one of the two.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define HOST_SHIM
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

using std::fabs;
using std::fma;
using std::sqrt;

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
// What `extern __shared__` names.
alignas(16) unsigned char dynamic_shared[227 << 10];

namespace shim {
struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::vector<char> stack;
    bool begun, done;
};
struct Barrier {
    unsigned met = 0, generation = 0;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler_start;
static jmp_buf scheduler;
static unsigned current, alive;
static std::function<void()> body;
static Barrier block_barrier;
// By warp, size of the part (log2) and first lane: parts of one warp may wait for different things.
static Barrier part_barriers[32][6][32];
static uint64_t exchanged[1024];

// setjmp and longjmp: unlike swapcontext they make no system call.
static void yield() {
    const unsigned me = current;
    if (!_setjmp(fibers[me].place)) _longjmp(scheduler, 1);
    current = me;
    threadIdx = {me, 0, 0};
}

static void wait(Barrier &barrier, unsigned members) {
    const unsigned generation = barrier.generation;
    if (++barrier.met == members) {
        barrier.met = 0;
        ++barrier.generation;
    } else {
        while (barrier.generation == generation) yield();
    }
}

static void entry() {
    body();
    fibers[current].done = true;
    --alive;
    _longjmp(scheduler, 1);
}

static void resume(unsigned thread) {
    Fiber &fiber = fibers[thread];
    current = thread;
    threadIdx = {thread, 0, 0};
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.start);
}

static void launch(unsigned grid, unsigned block, bool descending, std::function<void()> kernel) {
    gridDim = {grid, 1, 1};
    blockDim = {block, 1, 1};
    body = kernel;
    if (fibers.size() < block) fibers.resize(block);
    for (unsigned b = 0; b < grid; ++b) {
        blockIdx = {b, 0, 0};
        block_barrier = {};
        memset(part_barriers, 0, sizeof part_barriers);
        // What shared memory held before is not to be relied on.
        memset(dynamic_shared, 0xff, sizeof dynamic_shared);
        alive = block;
        for (unsigned t = 0; t < block; ++t) {
            Fiber &fiber = fibers[t];
            fiber.begun = fiber.done = false;
            if (fiber.stack.empty()) fiber.stack.resize(64 << 10);
            getcontext(&fiber.start);
            fiber.start.uc_stack.ss_sp = fiber.stack.data();
            fiber.start.uc_stack.ss_size = fiber.stack.size();
            fiber.start.uc_link = nullptr;
            makecontext(&fiber.start, entry, 0);
        }
        unsigned idle = 0;
        while (alive) {
            const unsigned before = alive;
            for (unsigned i = 0; i < block; ++i) {
                const unsigned t = descending ? block - 1 - i : i;
                if (!fibers[t].done) resume(t);
            }
            idle = before == alive ? idle + 1 : 0;
            if (idle > 10000000) {
                fprintf(stderr, "deadlock: a barrier that not all threads reach\n");
                abort();
            }
        }
    }
}

static void meet(unsigned members) {
    const unsigned first = __builtin_ctz(members), count = __builtin_popcount(members);
    wait(part_barriers[threadIdx.x / 32][__builtin_ctz(count)][first], count);
}
}  // namespace shim

inline void __syncthreads() { shim::wait(shim::block_barrier, blockDim.x); }
inline void __syncwarp(unsigned members = ~0u) { shim::meet(members); }

template <class T> T __shfl_xor_sync(unsigned members, T value, int apart) {
    const unsigned me = threadIdx.x;
    if (!(members >> (me % 32) & 1) || !(members >> ((me % 32) ^ apart) & 1)) {
        fprintf(stderr, "a shuffle with a thread that is not among its members\n");
        abort();
    }
    memcpy(&shim::exchanged[me], &value, sizeof value);
    shim::meet(members);
    memcpy(&value, &shim::exchanged[me ^ unsigned(apart)], sizeof value);
    shim::meet(members);
    return value;
}

template <class T> T __shfl_sync(unsigned members, T value, int from, int lanes = 32) {
    const unsigned me = threadIdx.x, source = me / lanes * lanes + unsigned(from) % lanes;
    if (!(members >> (me % 32) & 1) || !(members >> (source % 32) & 1)) {
        fprintf(stderr, "a shuffle with a thread that is not among its members\n");
        abort();
    }
    memcpy(&shim::exchanged[me], &value, sizeof value);
    shim::meet(members);
    memcpy(&value, &shim::exchanged[source], sizeof value);
    shim::meet(members);
    return value;
}

// As far off as the device's may be: 2 units in the last place.
inline float rsqrtf(float x) {
    const float root = float(1.0 / std::sqrt(double(x)));
    return std::isfinite(root) ? std::nextafter(std::nextafter(root, 2 * root), 2 * root) : root;
}
inline long long __double_as_longlong(double x) {
    long long bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __half {
    uint16_t bits;
};
struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
struct __half2 {
    __half x, y;
};
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline uint16_t __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline float __bfloat162float(__nv_bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return {0x7fff};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline float __half2float(__half x) {
    const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    const float sign = x.bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24));
}
// Scaled so that a unit of the result is 1, rounded to nearest even by the host.
inline __half __float2half_rn(float x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    if (x != x) return {0x7fff};
    const float size = std::fabs(x);
    if (size >= 65520.0f) return {uint16_t(sign | 0x7c00)};
    const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
    const int units = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return {uint16_t(sign | ((exponent + 14) * 1024 + units))};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
