/* What the benchmarks share.
 *
 * A benchmark asks one question, in one file, of each library that its first comment names in a line
 * "Libraries:". run.sh builds the file once for each of them, with BENCH_EVLOOP, BENCH_LIBUV, BENCH_LIBEV,
 * BENCH_LIBEVENT or BENCH_BARE (the system's calls alone) defined, and runs the programs in turns: each
 * run is one round. A program prints a line for each of its cases, through bench_report(). */
#ifndef BENCH_H
#define BENCH_H

#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif

#if defined(BENCH_EVLOOP)
#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"
#elif defined(BENCH_LIBUV)
#include <uv.h>
#elif defined(BENCH_LIBEV)
#include <ev.h>
#elif defined(BENCH_LIBEVENT)
#include <event2/event.h>
#elif !defined(BENCH_BARE)
#error                                                                                             \
    "define the library to measure: BENCH_EVLOOP, BENCH_LIBUV, BENCH_LIBEV, BENCH_LIBEVENT or BENCH_BARE"
#endif

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *bench_program; /* argv[0] */
static double bench_factor = 1;   /* of --scale */
static const char *bench_filter;  /* of --case */

/* Ends the program with a message when something went wrong: each side checks each of its calls. */
static inline void bench_check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "%s: %s failed (errno %d)\n", bench_program, what, errno);
    exit(1);
}

static inline uint64_t bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The same numbers for everyone; the seed is the caller's. */
static inline uint32_t bench_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Lets the program have as many descriptors as the system allows it, and returns how many. */
static inline rlim_t bench_raise_limit(void) {
    struct rlimit limit;
    bench_check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    bench_check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    return limit.rlim_cur;
}

/* One of the processors that may be used, counted over and over from the last one on. */
static inline cpu_set_t bench_processor(const cpu_set_t *usable, unsigned place) {
    cpu_set_t one;
    CPU_ZERO(&one);
    place %= (unsigned)CPU_COUNT(usable);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&one) == 0; cpu--)
        if (CPU_ISSET(cpu, usable) && place-- == 0)
            CPU_SET(cpu, &one);
    return one;
}

/* count times what --scale says, at least 1: for trying a benchmark out, and for counting instructions. */
static inline unsigned bench_scaled(unsigned count) {
    double scaled = count * bench_factor;
    return scaled < 1 ? 1 : (unsigned)scaled;
}

/* Whether to run this case: --case names a part of what to run. */
static inline int bench_wants(const char *name) {
    return bench_filter == NULL || strstr(name, bench_filter) != NULL;
}

/* The unit says which way is better: more of what ends in "/s", less of anything else. */
static inline void bench_report(const char *name, const char *unit, double value) {
    printf("%s\t%s\t%.6g\n", name, unit, value);
    fflush(stdout);
}

static inline void bench_print_version(void) {
#if defined(BENCH_EVLOOP)
    printf("evloop.h %s\n", EVLOOP_VERSION);
#elif defined(BENCH_LIBUV)
    printf("libuv %s\n", uv_version_string());
#elif defined(BENCH_LIBEV)
    printf("libev %d.%d\n", ev_version_major(), ev_version_minor());
#elif defined(BENCH_LIBEVENT)
    printf("libevent %s\n", event_get_version());
#else
    printf("bare system calls\n");
#endif
}

/* Takes the options: --scale F, --case TEXT, --version. Each main() begins with it. */
static inline void bench_begin(int argc, char **argv) {
    bench_program = argv[0];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            bench_print_version();
            exit(0);
        }
        if (i + 1 < argc && strcmp(argv[i], "--scale") == 0)
            bench_factor = strtod(argv[++i], NULL);
        else if (i + 1 < argc && strcmp(argv[i], "--case") == 0)
            bench_filter = argv[++i];
        else {
            fprintf(stderr, "usage: %s [--scale F] [--case TEXT] [--version]\n", bench_program);
            exit(2);
        }
    }
}

#endif /* BENCH_H */
