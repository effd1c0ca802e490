// Serves kernel launches over a pipe: a line of text, the buffers' bytes, and the buffers back. One source and
// storage type a program.
//
// KERNEL BLOCKS THREADS ORDER ARGUMENT..., where an argument is b<bytes> (a buffer), n (null), i<integer> or d<double>.
#include "shim.h"

#include KERNELS

#include <dlfcn.h>

#include <iostream>
#include <sstream>
#include <string>

namespace {
// The arguments in the order of the signature: pointers and integers, and at most one double.
struct Call {
    std::vector<long long> words;
    double real = 0;
    std::vector<std::vector<char>> buffers;
};

template <class T> T word(const Call &call, size_t i) { return (T)call.words.at(i); }

template <class... A> struct Caller {
    template <size_t... I> static void run(void *f, const Call &c, std::index_sequence<I...>) {
        ((void (*)(A...))f)(word<A>(c, I)...);
    }
    template <size_t... I> static void run_real(void *f, const Call &c, std::index_sequence<I...>) {
        ((void (*)(A..., double))f)(word<A>(c, I)..., c.real);
    }
};

bool starts(const std::string &name, const char *with) { return name.rfind(with, 0) == 0; }

typedef void *P;
typedef long long L;

void call(const std::string &name, void *f, const Call &c) {
    if (starts(name, "forward")) Caller<P, P, P, P, P, P, L, L, int, int>::run_real(f, c, std::make_index_sequence<10>());
    else if (starts(name, "backward")) Caller<P, P, P, P, P, L, int, int, int>::run_real(f, c, std::make_index_sequence<9>());
    else if (name == "merge_strips") Caller<P, P, L, L, L>::run(f, c, std::make_index_sequence<5>());
    else if (name == "finish_strips") Caller<P, P, L, L, int, int>::run(f, c, std::make_index_sequence<6>());
    else if (starts(name, "softmax_backward")) Caller<P, P, P, L, int>::run(f, c, std::make_index_sequence<5>());
    else if (starts(name, "softmax")) Caller<P, P, L, int>::run(f, c, std::make_index_sequence<4>());
    else if (starts(name, "curve_backward")) Caller<P, P, P, L, int>::run(f, c, std::make_index_sequence<5>());
    else if (starts(name, "curve")) Caller<P, P, L, int>::run(f, c, std::make_index_sequence<4>());
    else abort();
}
}  // namespace

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string name, argument;
        unsigned blocks, threads;
        int descending;
        words >> name >> blocks >> threads >> descending;
        Call arguments;
        while (words >> argument) {
            const char *rest = argument.c_str() + 1;
            if (argument[0] == 'b') {
                arguments.buffers.emplace_back(atoll(rest));
                std::cin.read(arguments.buffers.back().data(), atoll(rest));
                arguments.words.push_back((long long)arguments.buffers.back().data());
            } else if (argument[0] == 'd') {
                arguments.real = atof(rest);
            } else {
                arguments.words.push_back(argument[0] == 'n' ? 0 : atoll(rest));
            }
        }
        void *f = dlsym(RTLD_DEFAULT, name.c_str());
        if (!f) {
            fprintf(stderr, "there is no kernel %s\n", name.c_str());
            return 1;
        }
        shim::launch(blocks, threads, descending, [&] { call(name, f, arguments); });
        for (const auto &buffer : arguments.buffers) std::cout.write(buffer.data(), buffer.size());
        std::cout.flush();
    }
}
