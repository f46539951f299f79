/* How large the structs are that a program allocates: loop, handles, requests.
 * Libraries: evloop libuv
 *
 * These are what sizeof says; what a library allocates besides, for a loop or a connection, is not in it. */
#include "bench.h"

#if defined(BENCH_EVLOOP)
#define TYPE(name) evl_##name##_t
#elif defined(BENCH_LIBUV)
#define TYPE(name) uv_##name##_t
#endif

static void report(const char *name, size_t size) {
    if (bench_wants(name))
        bench_report(name, "bytes", (double)size);
}

#define REPORT(name) report(#name, sizeof(TYPE(name)))

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    REPORT(loop);
    REPORT(timer);
    REPORT(idle);
    REPORT(prepare);
    REPORT(check);
    REPORT(async);
    REPORT(poll);
    REPORT(tcp);
    REPORT(connect);
    REPORT(write);
    REPORT(shutdown);
    REPORT(work);
    REPORT(random);
    REPORT(fs);
    REPORT(dir);
    REPORT(getaddrinfo);
    REPORT(getnameinfo);
    return 0;
}
