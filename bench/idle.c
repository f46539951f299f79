/* One connection that works among many that are silent, and what a silent one takes of memory.
 * Libraries: evloop libuv libev libevent bare
 *
 * The server is the one of echo.c. Bytes are those that the heap gave out between the first connection
 * and the last one, for each: the connection's struct, which the program allocates, and the library's
 * tables, with what malloc adds. What there is once (a loop, its buffers) stays outside, and so do a
 * kernel's socket and buffers, which are larger than all this. RSS is the same by the pages that the kernel
 * has given out: it would show what a library takes without malloc. */
#include "bench.h"
#include "net.h"
#include "echo.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum { REQUESTS = 15000, BYTES = 64, SPARE = 64 /* descriptors for other things */ };

typedef struct {
    double heap, resident; /* bytes */
} memory_t;

static unsigned accepted, idle_count;
static memory_t first, last;

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)

static double heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return (double)(info.uordblks + info.hblkhd);
}

#else

static double heap_bytes(void) {
    return 0;
}

#endif

static double resident_bytes(void) {
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    bench_check(file != NULL && fscanf(file, "%lu %lu", &size, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void measure(memory_t *memory) {
    memory->resident = resident_bytes();
    memory->heap = heap_bytes();
}

/* The silent ones come first. */
static void on_accept(void) {
    accepted++;
    if (accepted == 1)
        measure(&first);
    else if (accepted == idle_count + 1)
        measure(&last);
}

/* As many silent connections as the limit of descriptors admits. */
static unsigned admitted(unsigned wanted) {
    rlim_t limit = bench_raise_limit();
    if (limit >= wanted + SPARE)
        return wanted;
    bench_check(limit > SPARE, "a limit of descriptors that admits some");
    fprintf(stderr, "%s: the limit of descriptors admits only %u of %u silent connections\n",
            bench_program, (unsigned)limit - SPARE, wanted);
    return (unsigned)limit - SPARE;
}

static void run(const char *name, unsigned idle, const char *memory_name) {
    uint64_t total = bench_scaled(REQUESTS);
    int wants_memory = memory_name != NULL && bench_wants(memory_name);
    if (!bench_wants(name) && !wants_memory)
        return;
    accepted = 0;
    idle_count = admitted(idle);
    net_begin(total * BYTES, total / 10 * BYTES);
    echo_serve(1, BYTES, idle_count);
    net_end_load();
    bench_check(accepted == idle_count + 1, "accepting all connections");
    if (bench_wants(name)) {
        bench_report(name, "ns CPU", net_cpu_ns() * BYTES);
        bench_report(name, "ns", net_wall_ns() * BYTES);
    }
    if (wants_memory && last.heap > 0)
        bench_report(memory_name, "bytes", (last.heap - first.heap) / idle_count);
    if (wants_memory)
        bench_report(memory_name, "bytes RSS", (last.resident - first.resident) / idle_count);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    echo_on_accept = on_accept;
    /* First, as long as no earlier run has left memory behind that could be used again. */
    run("1 active, 9000 idle", 9000, "memory of an idle connection");
    run("1 active, 100 idle", 100, NULL);
    return 0;
}
