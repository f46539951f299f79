/* A program written for libuv; its uv.h would hold the two lines below. With UV_NAMES_SPLIT it only
 * declares, and implementation.c, which knows nothing of these names, is linked. */
#ifndef UV_NAMES_SPLIT
#define EVLOOP_IMPLEMENTATION
#endif
#define EVLOOP_UV_NAMES
#include "../../evloop.h"

#include <stdio.h>
#include <string.h>

static int names_count;

static void names_on_idle(uv_idle_t *idle) {
    names_count++;
    if (names_count % 10 == 3)
        uv_close((uv_handle_t *)idle, NULL);
}

static void names_on_timer(uv_timer_t *timer) {
    names_count += 100;
    uv_close((uv_handle_t *)timer, NULL);
}

static void names_on_async(uv_async_t *async) {
    names_count += 1000;
    uv_close((uv_handle_t *)async, NULL);
}

#ifndef EVLOOP_NO_NET
static void names_on_connect(uv_connect_t *req, int status) {
    if (status == UV_ECONNREFUSED)
        names_count += 10000;
    uv_close((uv_handle_t *)req->handle, NULL);
}

/* Nobody listens on the port that a bound socket holds. */
static int names_connect(uv_loop_t *loop, uv_tcp_t *bound, uv_tcp_t *tcp, uv_connect_t *req) {
    struct sockaddr_in addr;
    int length = (int)sizeof(addr);
    if (uv_ip4_addr("127.0.0.1", 0, &addr) != 0 || uv_tcp_init(loop, bound) != 0 ||
        uv_tcp_bind(bound, (const struct sockaddr *)&addr, 0) != 0 ||
        uv_tcp_getsockname(bound, (struct sockaddr *)&addr, &length) != 0 ||
        uv_tcp_init(loop, tcp) != 0)
        return 1;
    uv_unref((uv_handle_t *)bound);
    return uv_tcp_connect(req, tcp, (const struct sockaddr *)&addr, names_on_connect);
}
#endif

int main(void) {
    uv_loop_t loop;
    uv_idle_t idle;
    uv_timer_t timer;
    uv_async_t async;
    int expected = 1103;
    if (uv_loop_init(&loop) != 0 || uv_idle_init(&loop, &idle) != 0 ||
        uv_timer_init(&loop, &timer) != 0 || uv_async_init(&loop, &async, names_on_async) != 0)
        return 1;
    uv_idle_start(&idle, names_on_idle);
    uv_timer_start(&timer, names_on_timer, 1, 0);
    uv_async_send(&async);
#ifndef EVLOOP_NO_NET
    uv_tcp_t bound;
    uv_tcp_t tcp;
    uv_connect_t req;
    expected += 10000;
    int err = names_connect(&loop, &bound, &tcp, &req);
    if (err != 0) {
        printf("connect: %s\n", uv_strerror(err));
        return 1;
    }
#endif
    uv_run(&loop, UV_RUN_DEFAULT);
#ifndef EVLOOP_NO_NET
    uv_close((uv_handle_t *)&bound, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
#endif
    printf("%d\n", names_count);
    if (uv_loop_close(&loop) != 0 || strcmp(uv_err_name(UV_EOF), "EOF") != 0)
        return 1;
    return names_count == expected ? 0 : 1;
}
