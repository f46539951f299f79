/* A server that sends back requests of 64 bytes over TCP, one of them under way on each connection.
 * Libraries: evloop libuv libev libevent bare
 *
 * Counted is the server's processor time for a request, and beside it the time by the clock, in which the
 * kernel's loopback and the load share. A run's number of requests, those that warm up included, is
 * REQUESTS times --scale: calls.sh relies on it. */
#include "bench.h"
#include "net.h"
#include "echo.h"

enum { REQUESTS = 30000 };

#if !defined(ECHO_BYTES)
#define ECHO_BYTES 64
#endif

static void run(const char *name, unsigned connections) {
    uint64_t total = bench_scaled(REQUESTS);
    if (!bench_wants(name))
        return;
    net_begin(total * ECHO_BYTES, total / 10 * ECHO_BYTES);
    echo_serve(connections, ECHO_BYTES, 0);
    net_end_load();
    bench_report(name, "ns CPU", net_cpu_ns() * ECHO_BYTES);
    bench_report(name, "ns", net_wall_ns() * ECHO_BYTES);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    run("1 connection", 1);
    run("50 connections", 50);
    run("500 connections", 500);
    return 0;
}
