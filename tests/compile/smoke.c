/* A timer, a tick and, where there is a net, an echo over TCP: the least that each way to build the
 * library must be able to do. With SMOKE_SPLIT it only declares, and implementation.c is linked. */
#ifndef SMOKE_SPLIT
#define EVLOOP_IMPLEMENTATION
#endif
#include "../../evloop.h"
#include "../../evloop.h" /* a second time does nothing */

#if defined(_WIN32)
#include <winsock2.h>
#include <ws2tcpip.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void smoke_check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
    exit(1);
}

/* ---- Timer and tick -------------------------------------------------------------------------- */

static int smoke_fired;
static int smoke_ticked;

static void smoke_on_tick(evl_loop_t *loop, void *arg) {
    (void)loop;
    ++*(int *)arg;
}

static void smoke_on_timer(evl_timer_t *timer) {
    smoke_fired++;
    smoke_check(evl_next_tick(timer->loop, smoke_on_tick, &smoke_ticked), "evl_next_tick");
    evl_close((evl_handle_t *)timer, NULL);
}

/* ---- Echo ------------------------------------------------------------------------------------ */

#ifndef EVLOOP_NO_NET
static evl_tcp_t smoke_server;
static evl_tcp_t smoke_peer;
static evl_tcp_t smoke_client;
static evl_write_t smoke_echo;
static int smoke_echoed;

static void smoke_on_written(evl_write_t *req, int status) {
    (void)req;
    smoke_check(status, "write");
}

static void smoke_on_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char block[64];
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(block, sizeof(block));
}

static void smoke_on_peer_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    evl_buf_t echo = evl_buf_init(buf->base, nread > 0 ? (unsigned int)nread : 0);
    if (nread > 0)
        smoke_check(evl_write(&smoke_echo, stream, &echo, 1, smoke_on_written), "evl_write");
    else if (nread < 0)
        evl_close((evl_handle_t *)stream, NULL);
}

static void smoke_on_connection(evl_stream_t *server, int status) {
    smoke_check(status, "connection");
    smoke_check(evl_tcp_init(server->loop, &smoke_peer), "evl_tcp_init");
    smoke_check(evl_accept(server, (evl_stream_t *)&smoke_peer), "evl_accept");
    smoke_check(evl_read_start((evl_stream_t *)&smoke_peer, smoke_on_alloc, smoke_on_peer_read),
                "evl_read_start");
    evl_close((evl_handle_t *)server, NULL);
}

static void smoke_on_client_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    smoke_echoed = nread == 4 && memcmp(buf->base, "ping", 4) == 0;
    evl_close((evl_handle_t *)stream, NULL);
}

static void smoke_on_connect(evl_connect_t *req, int status) {
    static char text[] = "ping";
    evl_buf_t ping = evl_buf_init(text, 4);
    smoke_check(status, "connect");
    smoke_check(evl_read_start(req->handle, NULL, smoke_on_client_read), "evl_read_start");
    smoke_check(evl_try_write(req->handle, &ping, 1), "evl_try_write");
}

static int smoke_tcp(evl_loop_t *loop) {
    static evl_connect_t connect_req;
    struct sockaddr_in addr;
    int length = (int)sizeof(addr);
    smoke_check(evl_ip4_addr("127.0.0.1", 0, &addr), "evl_ip4_addr");
    smoke_check(evl_tcp_init(loop, &smoke_server), "evl_tcp_init");
    smoke_check(evl_tcp_bind(&smoke_server, (const struct sockaddr *)&addr, 0), "evl_tcp_bind");
    smoke_check(evl_listen((evl_stream_t *)&smoke_server, 8, smoke_on_connection), "evl_listen");
    smoke_check(evl_tcp_getsockname(&smoke_server, (struct sockaddr *)&addr, &length),
                "evl_tcp_getsockname");
    smoke_check(evl_tcp_init(loop, &smoke_client), "evl_tcp_init");
    smoke_check(evl_tcp_connect(&connect_req, &smoke_client, (const struct sockaddr *)&addr,
                                smoke_on_connect),
                "evl_tcp_connect");
    smoke_check(evl_run(loop, EVL_RUN_DEFAULT), "evl_run");
    return smoke_echoed;
}
#else
static int smoke_tcp(evl_loop_t *loop) {
    (void)loop;
    return 1;
}
#endif

int main(void) {
    evl_loop_t loop;
    evl_timer_t timer;
    smoke_check(evl_loop_init(&loop), "evl_loop_init");
    smoke_check(evl_timer_init(&loop, &timer), "evl_timer_init");
    smoke_check(evl_timer_start(&timer, smoke_on_timer, 1, 0), "evl_timer_start");
    smoke_check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    int echoed = smoke_tcp(&loop);
    smoke_check(evl_loop_close(&loop), "evl_loop_close");
    printf("timer %d, tick %d, echo %d\n", smoke_fired, smoke_ticked, echoed);
    return smoke_fired == 1 && smoke_ticked == 1 && echoed ? 0 : 1;
}
