/* test_tcp.c - TCP handles: addresses, listening, accepting, connecting, adopting, options. */
#include "net.h"

#ifndef EVLOOP_NO_NET

/* ---- A connect and what became of it --------------------------------------------------------- */

typedef struct {
    evl_connect_t req;
    int calls;
    int status;
    int returned; /* evl_tcp_connect has */
} dial_t;

static void dial_on_connect(evl_connect_t *req, int status) {
    dial_t *dial = (dial_t *)req->data;
    CHECK(dial->returned);
    CHECK_PTR(req, &dial->req);
    dial->calls++;
    dial->status = status;
}

static int dial_start(dial_t *dial, evl_tcp_t *tcp, const struct sockaddr *addr) {
    memset(dial, 0, sizeof(*dial));
    memset(&dial->req, 0xA5, sizeof(dial->req));
    dial->req.data = dial;
    int result = evl_tcp_connect(&dial->req, tcp, addr, dial_on_connect);
    dial->returned = 1;
    return result;
}

static void on_connect_never(evl_connect_t *req, int status) {
    (void)req;
    (void)status;
    NET_FAIL("this connect was refused: its callback must not come");
}

static void on_connection_never(evl_stream_t *server, int status) {
    (void)server;
    (void)status;
    NET_FAIL("no connection was made");
}

static int has_ipv6(void) {
    struct sockaddr_in6 addr;
    evl_os_sock_t fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd == OS_NO_SOCK)
        return 0;
    CHECK_EQ(evl_ip6_addr("::1", 0, &addr), 0);
    int found = bind(fd, net_sa6(&addr), sizeof(addr)) == 0;
    os_close(fd);
    return found;
}

/* OpenBSD has none. */
static int has_dual_stack(void) {
    evl_os_sock_t fd = os_socket(AF_INET6, SOCK_STREAM);
    int off = 0;
    int result = os_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    os_close(fd);
    return result == 0;
}

/* ---- Sizes and states ------------------------------------------------------------------------ */

TEST(tcp_struct_sizes) {
    if (sizeof(void *) != 8)
        SKIP("the bounds are for 64 bits");
    CHECK_LE(sizeof(evl_tcp_t), 168);
    CHECK_LE(sizeof(evl_write_t), 144);
    CHECK_EQ(evl_handle_size(EVL_TCP), sizeof(evl_tcp_t));
    CHECK_EQ(evl_req_size(EVL_WRITE), sizeof(evl_write_t));
    CHECK_EQ(evl_req_size(EVL_CONNECT), sizeof(evl_connect_t));
    CHECK_EQ(evl_req_size(EVL_SHUTDOWN), sizeof(evl_shutdown_t));
}

TEST(tcp_fresh_handle) {
    net_t net;
    evl_tcp_t tcp;
    evl_os_fd_t fd;
    net_open(&net);
    memset(&tcp, 0xA5, sizeof(tcp));
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(tcp.type, EVL_TCP);
    CHECK_PTR(tcp.loop, &net.loop);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    CHECK_EQ(evl_is_closing(net_handle(&tcp)), 0);
    CHECK_EQ(evl_has_ref(net_handle(&tcp)), 1);
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 0);
    CHECK_EQ(tcp.write_queue_size, 0);
    CHECK_EQ(evl_fileno(net_handle(&tcp), &fd), EVL_EBADF);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(evl_loop_close(&net.loop), EVL_EBUSY);
    net_close(&net);
}

TEST(tcp_init_ex_families) {
    net_t net;
    evl_tcp_t plain, four, six, bad;
    evl_os_fd_t fd;
    net_open(&net);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &plain, AF_UNSPEC), 0);
    CHECK_EQ(evl_fileno(net_handle(&plain), &fd), EVL_EBADF);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &four, AF_INET), 0);
    CHECK_EQ(os_domain(net_fileno(&four)), AF_INET);
    os_check_flags(net_fileno(&four), 1);
    if (has_ipv6()) {
        CHECK_EQ(evl_tcp_init_ex(&net.loop, &six, AF_INET6), 0);
        CHECK_EQ(os_domain(net_fileno(&six)), AF_INET6);
        os_check_flags(net_fileno(&six), 1);
    }
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &bad, AF_UNIX), EVL_EINVAL);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &bad, AF_INET | 0x100), EVL_EINVAL);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &bad, 0xff), EVL_EINVAL);
    net_close(&net);
}

/* A handle whose init failed is not the loop's. */
TEST(tcp_init_ex_without_descriptors) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    test_fault_set("socket", 1, 1, EMFILE);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &tcp, AF_INET), EVL_EMFILE);
    CHECK_EQ(test_fault_hits("socket"), 1);
    test_fault_clear();
    memset(&tcp, 0xA5, sizeof(tcp));
    CHECK_EQ(evl_loop_close(&net.loop), 0);
    CHECK_EQ(test_open_fds(), net.fds);
}

/* ---- Bind and listen ------------------------------------------------------------------------- */

TEST(tcp_bind_gives_a_port) {
    net_t net;
    evl_tcp_t tcp;
    struct sockaddr_in addr = net_addr(0);
    struct sockaddr_storage name;
    int length = sizeof(name);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), 0);
    memset(&name, 0, sizeof(name));
    CHECK_EQ(evl_tcp_getsockname(&tcp, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(length, sizeof(addr));
    CHECK_EQ(name.ss_family, AF_INET);
    memcpy(&addr, &name, sizeof(addr));
    CHECK_NE(addr.sin_port, 0);
    CHECK_EQ(addr.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK_EQ(net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_REUSEADDR) != 0, OS_REUSES_ADDRESS);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    net_close(&net);
}

TEST(tcp_bind_twice) {
    net_t net;
    evl_tcp_t tcp;
    struct sockaddr_in addr = net_addr(0);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), 0);
    int port = net_raw_port(net_fileno(&tcp));
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), EVL_EINVAL);
    CHECK_EQ(net_raw_port(net_fileno(&tcp)), port);
    CHECK_EQ(evl_listen(net_stream(&tcp), 1, on_connection_never), 0);
    net_close(&net);
}

TEST(tcp_bind_wrong_family) {
    net_t net;
    evl_tcp_t tcp, four;
    struct sockaddr_in addr = net_addr(0);
    struct sockaddr_in6 addr6;
    net_open(&net);
    CHECK_EQ(evl_ip6_addr("::1", 0, &addr6), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    addr.sin_family = AF_UNIX;
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), EVL_EINVAL);
    addr.sin_family = AF_UNSPEC;
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), EVL_EINVAL);
    addr.sin_family = AF_INET;
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), EVL_TCP_IPV6ONLY), EVL_EINVAL);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), 0);
    /* An IPv4 socket cannot take an IPv6 address; it can still take one of its own. */
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &four, AF_INET), 0);
    CHECK_LT(evl_tcp_bind(&four, net_sa6(&addr6), 0), 0);
    CHECK_EQ(evl_tcp_bind(&four, net_sa(&addr), 0), 0);
    net_close(&net);
}

TEST(tcp_bind_foreign_address) {
    net_t net;
    evl_tcp_t tcp;
    struct sockaddr_in addr = net_addr(0);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    addr.sin_addr.s_addr = htonl(0xc0000201u); /* 192.0.2.1: for documentation */
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), EVL_EADDRNOTAVAIL);
    addr = net_addr(0);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), 0);
    net_close(&net);
}

TEST(tcp_bind_listen_connect_on_closing) {
    net_t net;
    evl_tcp_t tcp;
    evl_connect_t req;
    struct sockaddr_in addr = net_addr(1);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), EVL_EINVAL);
    CHECK_EQ(evl_listen(net_stream(&tcp), 1, on_connection_never), EVL_EINVAL);
    CHECK_EQ(evl_tcp_connect(&req, &tcp, net_sa(&addr), on_connect_never), EVL_EINVAL);
    net_close(&net);
}

/* A port in use is no matter of bind's, but of what comes next. */
TEST(tcp_bind_in_use_is_deferred) {
    net_t net;
    evl_tcp_t tcp, caller;
    dial_t dial;
    int port;
    int length = sizeof(struct sockaddr_storage);
    struct sockaddr_storage name;
    net_open(&net);
    evl_os_sock_t owner = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_bind(&tcp, net_sa(&addr), 0), 0);
    CHECK_EQ(evl_tcp_getsockname(&tcp, (struct sockaddr *)&name, &length), EVL_EADDRINUSE);
    CHECK_EQ(evl_tcp_getpeername(&tcp, (struct sockaddr *)&name, &length), EVL_EADDRINUSE);
    CHECK_EQ(evl_listen(net_stream(&tcp), 1, on_connection_never), EVL_EADDRINUSE);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);

    CHECK_EQ(evl_tcp_init(&net.loop, &caller), 0);
    CHECK_EQ(evl_tcp_bind(&caller, net_sa(&addr), 0), 0);
    CHECK_EQ(dial_start(&dial, &caller, net_sa(&addr)), 0);
    NET_UNTIL(&net.loop, dial.calls == 1);
    CHECK_EQ(dial.status, EVL_EADDRINUSE);
    os_close(owner);
    net_close(&net);
    CHECK_EQ(dial.calls, 1);
}

TEST(tcp_listen_without_bind) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_listen(net_stream(&tcp), 1, on_connection_never), 0);
    CHECK_NE(net_raw_port(net_fileno(&tcp)), 0);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 1);
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    evl_unref(net_handle(&tcp));
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    net_close(&net);
}

/* Connections wait to be asked for, one in the handle, the others in the kernel's queue; errors have
 * nobody to go to. */
TEST(tcp_listen_without_a_callback) {
    net_t net;
    evl_tcp_t server;
    evl_tcp_t guests[3];
    evl_os_sock_t clients[3];
    net_open(&net);
    int port = net_listen(&net, &server, 4, NULL);
    for (int i = 0; i < 3; i++)
        clients[i] = net_raw_connect(port);
    test_fault_set("accept", 2, 3, EMFILE);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_tcp_init(&net.loop, &guests[i]), 0);
        *net_waiting() = "a connection without a callback\n";
        while (evl_accept(net_stream(&server), net_stream(&guests[i])) == EVL_EAGAIN)
            CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
        net_raw_write(clients[i], "x", 1);
        net_raw_await(net_fileno(&guests[i]));
        CHECK_LE(net_run_ms(&net.loop, 5), 8);
    }
    CHECK_EQ(test_fault_hits("accept"), 3);
    test_fault_clear();
    for (int i = 0; i < 3; i++)
        os_close(clients[i]);
    net_close(&net);
}

TEST(tcp_listen_again_replaces_the_callback) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    net_open(&net);
    int port = net_listen(&net, &server, 4, on_connection_never);
    server.data = hall;
    CHECK_EQ(evl_listen(net_stream(&server), 8, net_on_connection), 0);
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 1);
    os_close(client);
    net_close(&net);
    free(hall);
}

TEST(tcp_listen_on_a_connection) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_LT(evl_listen(net_stream(&tcp), 1, on_connection_never), 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 1);
    os_close(peer);
    net_close(&net);
}

TEST(tcp_ipv6_only) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t only, both;
    dial_t dial;
    evl_tcp_t four;
    struct sockaddr_in6 any;
    if (!has_ipv6())
        SKIP("no IPv6 here");
    net_open(&net);
    CHECK_EQ(evl_ip6_addr("::", 0, &any), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &only), 0);
    CHECK_EQ(evl_tcp_bind(&only, net_sa6(&any), EVL_TCP_IPV6ONLY), 0);
    CHECK_EQ(evl_listen(net_stream(&only), 4, on_connection_never), 0);
    CHECK_EQ(net_raw_option(net_fileno(&only), IPPROTO_IPV6, IPV6_V6ONLY), 1);
    if (!has_dual_stack())
        SKIP("no sockets for IPv6 and IPv4 together here");
    CHECK_EQ(evl_tcp_init(&net.loop, &both), 0);
    both.data = hall;
    CHECK_EQ(evl_tcp_bind(&both, net_sa6(&any), 0), 0);
    CHECK_EQ(evl_listen(net_stream(&both), 4, net_on_connection), 0);
    CHECK_EQ(net_raw_option(net_fileno(&both), IPPROTO_IPV6, IPV6_V6ONLY), 0);

    struct sockaddr_in addr = net_addr(net_raw_port(net_fileno(&both)));
    CHECK_EQ(evl_tcp_init(&net.loop, &four), 0);
    CHECK_EQ(dial_start(&dial, &four, net_sa(&addr)), 0);
    NET_UNTIL(&net.loop, dial.calls == 1 && hall->count == 1);
    CHECK_EQ(dial.status, 0);
    net_close(&net);
    free(hall);
}

TEST(tcp_ipv6_connection) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server, client;
    dial_t dial;
    struct sockaddr_in6 addr, name;
    net_sink_t sink;
    int length = sizeof(addr);
    char text[64];
    if (!has_ipv6())
        SKIP("no IPv6 here");
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    CHECK_EQ(evl_ip6_addr("::1", 0, &addr), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &server), 0);
    server.data = hall;
    CHECK_EQ(evl_tcp_bind(&server, net_sa6(&addr), 0), 0);
    CHECK_EQ(evl_listen(net_stream(&server), 4, net_on_connection), 0);
    CHECK_EQ(evl_tcp_getsockname(&server, (struct sockaddr *)&addr, &length), 0);
    CHECK_EQ(length, sizeof(addr));
    CHECK_EQ(addr.sin6_family, AF_INET6);
    CHECK_NE(addr.sin6_port, 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa6(&addr)), 0);
    NET_UNTIL(&net.loop, dial.calls == 1 && hall->count == 1);
    CHECK_EQ(dial.status, 0);
    length = sizeof(name);
    CHECK_EQ(evl_tcp_getpeername(&client, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(length, sizeof(name));
    CHECK_EQ(name.sin6_port, addr.sin6_port);
    CHECK_EQ(evl_ip6_name(&name, text, sizeof(text)), 0);
    CHECK_STR(text, "::1");

    hall->guests[0].data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&hall->guests[0]), NULL, net_on_read), 0);
    evl_buf_t buf = net_buf(0, 1000);
    CHECK_EQ(evl_try_write(net_stream(&client), &buf, 1), 1000);
    NET_UNTIL(&net.loop, sink.bytes == 1000);
    net_close(&net);
    free(hall);
}

TEST(tcp_reuseport_shares_a_port) {
    enum { CLIENTS = 64 };
    net_t net;
    net_hall_t *left = (net_hall_t *)calloc(1, sizeof(*left));
    net_hall_t *right = (net_hall_t *)calloc(1, sizeof(*right));
    evl_tcp_t first, second, plain;
    evl_os_sock_t clients[CLIENTS];
    struct sockaddr_in addr = net_addr(0);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &first), 0);
    int result = evl_tcp_bind(&first, net_sa(&addr), EVL_TCP_REUSEPORT);
    if (result == EVL_ENOTSUP) {
        net_close(&net);
        free(left);
        free(right);
        SKIP("this kernel does not spread the load");
    }
    CHECK_EQ(result, 0);
    first.data = left;
    second.data = right;
    CHECK_EQ(evl_listen(net_stream(&first), CLIENTS, net_on_connection), 0);
    addr = net_addr(net_raw_port(net_fileno(&first)));
    CHECK_EQ(evl_tcp_init(&net.loop, &second), 0);
    second.data = right;
    CHECK_EQ(evl_tcp_bind(&second, net_sa(&addr), EVL_TCP_REUSEPORT), 0);
    CHECK_EQ(evl_listen(net_stream(&second), CLIENTS, net_on_connection), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &plain), 0);
    CHECK_EQ(evl_tcp_bind(&plain, net_sa(&addr), 0), 0);
    CHECK_EQ(evl_listen(net_stream(&plain), 1, on_connection_never), EVL_EADDRINUSE);

    for (int i = 0; i < CLIENTS; i++)
        clients[i] = net_raw_connect(ntohs(addr.sin_port));
    NET_UNTIL(&net.loop, left->count + right->count == CLIENTS);
    CHECK_GT(left->count, 0);
    CHECK_GT(right->count, 0);
    for (int i = 0; i < CLIENTS; i++)
        os_close(clients[i]);
    net_close(&net);
    free(left);
    free(right);
}

/* ---- Names ----------------------------------------------------------------------------------- */

TEST(tcp_names) {
    net_t net;
    evl_tcp_t tcp;
    struct sockaddr_in own, peer_name;
    int length = sizeof(own);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_getsockname(&tcp, (struct sockaddr *)&own, &length), EVL_EBADF);
    CHECK_EQ(evl_tcp_getpeername(&tcp, (struct sockaddr *)&own, &length), EVL_EBADF);
    evl_close(net_handle(&tcp), NULL);
    evl_run(&net.loop, EVL_RUN_DEFAULT);

    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(evl_tcp_getsockname(&tcp, (struct sockaddr *)&own, &length), 0);
    CHECK_EQ(length, sizeof(own));
    CHECK_EQ(ntohs(own.sin_port), net_raw_port(net_fileno(&tcp)));
    CHECK_EQ(evl_tcp_getpeername(&tcp, (struct sockaddr *)&peer_name, &length), 0);
    CHECK_EQ(length, sizeof(peer_name));
    CHECK_EQ(ntohs(peer_name.sin_port), net_raw_port(peer));
    os_close(peer);
    net_close(&net);
}

TEST(tcp_names_into_little_room) {
    net_t net;
    evl_tcp_t tcp, idle;
    union {
        struct sockaddr addr;
        unsigned char bytes[sizeof(struct sockaddr_in)];
    } name;
    int length = 4;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    memset(name.bytes, 0xA5, sizeof(name.bytes));
    CHECK_EQ(evl_tcp_getsockname(&tcp, &name.addr, &length), 0);
    CHECK_EQ(length, OS_CUT_LENGTH(4, sizeof(struct sockaddr_in)));
    CHECK_EQ(name.addr.sa_family, AF_INET);
    for (size_t i = 4; i < sizeof(name.bytes); i++)
        CHECK_EQ(name.bytes[i], 0xA5);
    length = 4;
    memset(name.bytes, 0xA5, sizeof(name.bytes));
    CHECK_EQ(evl_tcp_getpeername(&tcp, &name.addr, &length), 0);
    CHECK_EQ(length, OS_CUT_LENGTH(4, sizeof(struct sockaddr_in)));
    for (size_t i = 4; i < sizeof(name.bytes); i++)
        CHECK_EQ(name.bytes[i], 0xA5);
    length = -1;
    CHECK_EQ(evl_tcp_getsockname(&tcp, &name.addr, &length), EVL_EINVAL);
    length = sizeof(name);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &idle, AF_INET), 0);
    CHECK_EQ(evl_tcp_getpeername(&idle, &name.addr, &length), EVL_ENOTCONN);
    os_close(peer);
    net_close(&net);
}

/* ---- Connect --------------------------------------------------------------------------------- */

TEST(tcp_connect_succeeds) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server, client;
    dial_t dial;
    net_open(&net);
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(dial.req.type, EVL_CONNECT);
    CHECK_PTR(dial.req.handle, &client);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    os_check_flags(net_fileno(&client), 1);
    NET_UNTIL(&net.loop, dial.calls > 0 && hall->count == 1);
    CHECK_EQ(dial.status, 0);
    CHECK_EQ(evl_is_readable(net_stream(&client)), 1);
    CHECK_EQ(evl_is_writable(net_stream(&client)), 1);
    CHECK_EQ(evl_is_readable(net_stream(&hall->guests[0])), 1);
    CHECK_EQ(evl_is_writable(net_stream(&hall->guests[0])), 1);
    os_check_flags(net_fileno(&hall->guests[0]), 1);
    os_check_flags(net_fileno(&server), 1);
    net_close(&net);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(hall->calls, 1);
    free(hall);
}

/* An outstanding connect keeps the loop alive, even when its handle is unreferenced. */
TEST(tcp_connect_keeps_the_loop_alive) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    evl_unref(net_handle(&client));
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(dial.status, 0);
    os_close(listener);
    net_close(&net);
}

TEST(tcp_connect_refused) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    int port;
    net_open(&net);
    evl_os_sock_t bound = net_raw_bound(&port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(dial.status, EVL_ECONNREFUSED);
    os_close(bound);
    net_close(&net);
    CHECK_EQ(dial.calls, 1);
}

/* Some systems report the refusal at once; the callback still gets it. */
TEST(tcp_connect_refused_at_once) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    struct sockaddr_in addr = net_addr(9);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    test_fault_set("connect", 1, 1, ECONNREFUSED);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(test_fault_hits("connect"), 1);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(dial.status, EVL_ECONNREFUSED);
    net_close(&net);
}

/* What is no matter of the peer's comes back from the call, and nothing has begun. */
TEST(tcp_connect_fails_at_once) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    test_fault_set("socket", 1, 1, ENOBUFS);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), EVL_ENOBUFS);
    test_fault_set("socket", 0, 0, 0);
    test_fault_set("connect", 1, 1, ENETUNREACH);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), EVL_ENETUNREACH);
    CHECK_EQ(dial.calls, 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    test_fault_clear();
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(dial.status, 0);
    os_close(listener);
    net_close(&net);
}

TEST(tcp_connect_wrong_family) {
    net_t net;
    evl_tcp_t client;
    evl_connect_t req;
    struct sockaddr_in addr = net_addr(9);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    addr.sin_family = AF_UNIX;
    CHECK_EQ(evl_tcp_connect(&req, &client, net_sa(&addr), on_connect_never), EVL_EINVAL);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    net_close(&net);
}

TEST(tcp_connect_twice) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    evl_connect_t other;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    CHECK_EQ(evl_tcp_connect(&other, &client, net_sa(&addr), on_connect_never), EVL_EALREADY);
    NET_UNTIL(&net.loop, dial.calls == 1);
    CHECK_EQ(dial.status, 0);
    os_close(listener);
    net_close(&net);
}

static void on_write_count(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    (*(int *)req->data)++;
}

static void on_shutdown_flag(evl_shutdown_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

TEST(tcp_write_before_connect_starts) {
    net_t net;
    evl_tcp_t none, made;
    evl_write_t req;
    evl_shutdown_t shut;
    evl_buf_t buf = net_buf(0, 10);
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &none), 0);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &made, AF_INET), 0);
    CHECK_EQ(evl_write(&req, net_stream(&none), &buf, 1, NULL), EVL_EBADF);
    CHECK_EQ(evl_try_write(net_stream(&none), &buf, 1), EVL_EBADF);
    CHECK_EQ(evl_write(&req, net_stream(&made), &buf, 1, NULL), EVL_EPIPE);
    CHECK_EQ(evl_try_write(net_stream(&made), &buf, 1), EVL_EPIPE);
    CHECK_EQ(evl_read_start(net_stream(&none), NULL, net_on_read), EVL_ENOTCONN);
    CHECK_EQ(evl_read_start(net_stream(&made), NULL, net_on_read), EVL_ENOTCONN);
    CHECK_EQ(evl_shutdown(&shut, net_stream(&none), NULL), EVL_ENOTCONN);
    CHECK_EQ(evl_shutdown(&shut, net_stream(&made), NULL), EVL_ENOTCONN);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    net_close(&net);
}

/* Writes queue behind the connect, and a shutdown behind the writes. */
TEST(tcp_write_and_shutdown_while_connecting) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    evl_write_t writes[5];
    evl_shutdown_t shut;
    int written = 0, shut_done = 0, port;
    size_t got = 0, offset = 0;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    for (size_t i = 0; i < NET_COUNT(writes); i++) {
        evl_buf_t buf = net_buf(offset, 1000 * i);
        offset += 1000 * i;
        writes[i].data = &written;
        CHECK_EQ(evl_write(&writes[i], net_stream(&client), &buf, 1, on_write_count), 0);
        CHECK_EQ(client.write_queue_size, offset);
    }
    evl_buf_t more = net_buf(offset, 1);
    CHECK_EQ(evl_try_write(net_stream(&client), &more, 1), EVL_EAGAIN);
    shut.data = &shut_done;
    CHECK_EQ(evl_shutdown(&shut, net_stream(&client), on_shutdown_flag), 0);
    CHECK_EQ(evl_write(&writes[0], net_stream(&client), &more, 1, NULL), EVL_EPIPE);
    CHECK_EQ(written + shut_done + dial.calls, 0);
    NET_UNTIL(&net.loop, shut_done);
    CHECK_EQ(dial.calls, 1);
    CHECK_EQ(dial.status, 0);
    CHECK_EQ(written, 5);
    CHECK_EQ(client.write_queue_size, 0);
    evl_os_sock_t peer = net_raw_accept(listener);
    CHECK_EQ(net_raw_drain(peer, &got), -1);
    CHECK_EQ(got, offset);
    os_close(peer);
    os_close(listener);
    net_close(&net);
}

/* A shutdown alone while connecting waits for the connection as well. */
TEST(tcp_shutdown_while_connecting) {
    net_t net;
    evl_tcp_t client;
    dial_t dial;
    evl_shutdown_t shut;
    int shut_done = 0, port;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    shut.data = &shut_done;
    CHECK_EQ(evl_shutdown(&shut, net_stream(&client), on_shutdown_flag), 0);
    CHECK_EQ(shut_done, 0);
    NET_UNTIL(&net.loop, dial.calls == 1);
    CHECK_EQ(dial.status, 0);
    NET_UNTIL(&net.loop, shut_done);
    evl_os_sock_t peer = net_raw_accept(listener);
    CHECK_EQ(net_raw_drain(peer, &got), -1);
    os_close(peer);
    os_close(listener);
    net_close(&net);
}

/* ---- Connects that come to nothing ----------------------------------------------------------- */

typedef struct {
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t writes[3];
    evl_shutdown_t shut;
    net_log_t log;
    int connect_status;
    int write_status;
    int close_in_connect;
    int closed;
} fate_t;

static void fate_on_close(evl_handle_t *handle) {
    fate_t *fate = (fate_t *)handle->data;
    net_note(&fate->log, 'X');
    fate->closed = 1;
}

static void fate_on_connect(evl_connect_t *req, int status) {
    fate_t *fate = (fate_t *)req->data;
    net_note(&fate->log, 'c');
    CHECK_EQ(status, fate->connect_status);
    if (fate->close_in_connect)
        evl_close(net_handle(&fate->tcp), fate_on_close);
}

static void fate_on_write(evl_write_t *req, int status) {
    fate_t *fate = (fate_t *)req->data;
    net_note(&fate->log, (char)('0' + (req - fate->writes)));
    CHECK_EQ(status, fate->write_status);
}

static void fate_on_shutdown(evl_shutdown_t *req, int status) {
    fate_t *fate = (fate_t *)req->data;
    net_note(&fate->log, 's');
    CHECK_LT(status, 0);
}

static void fate_start(fate_t *fate, net_t *net, int port) {
    struct sockaddr_in addr = net_addr(port);
    memset(fate, 0, sizeof(*fate));
    CHECK_EQ(evl_tcp_init(&net->loop, &fate->tcp), 0);
    fate->tcp.data = fate;
    fate->connect.data = fate;
    fate->shut.data = fate;
    CHECK_EQ(evl_tcp_connect(&fate->connect, &fate->tcp, net_sa(&addr), fate_on_connect), 0);
    for (size_t i = 0; i < NET_COUNT(fate->writes); i++) {
        evl_buf_t buf = net_buf(0, 100);
        fate->writes[i].data = fate;
        CHECK_EQ(evl_write(&fate->writes[i], net_stream(&fate->tcp), &buf, 1, fate_on_write), 0);
    }
    CHECK_EQ(fate->log.length, 0);
}

TEST(tcp_connect_refused_cancels_writes) {
    net_t net;
    fate_t fate;
    int port;
    net_open(&net);
    evl_os_sock_t bound = net_raw_bound(&port);
    fate_start(&fate, &net, port);
    fate.connect_status = EVL_ECONNREFUSED;
    fate.write_status = EVL_ECANCELED;
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(fate.log.text, "c012");
    CHECK_EQ(fate.tcp.write_queue_size, 0);
    os_close(bound);
    net_close(&net);
    CHECK_STR(fate.log.text, "c012");
}

TEST(tcp_close_while_connecting) {
    net_t net;
    fate_t fate;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    fate_start(&fate, &net, port);
    CHECK_EQ(evl_shutdown(&fate.shut, net_stream(&fate.tcp), fate_on_shutdown), 0);
    fate.connect_status = EVL_ECANCELED;
    fate.write_status = EVL_ECANCELED;
    evl_close(net_handle(&fate.tcp), fate_on_close);
    CHECK_EQ(fate.log.length, 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(fate.log.text, "c012sX");
    os_close(listener);
    net_close(&net);
}

TEST(tcp_close_in_connect_callback) {
    net_t net;
    fate_t fate;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    fate_start(&fate, &net, port);
    fate.close_in_connect = 1;
    fate.write_status = EVL_ECANCELED;
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(fate.log.text, "c012X");
    os_close(listener);
    net_close(&net);
}

TEST(tcp_close_in_failed_connect_callback) {
    net_t net;
    fate_t fate;
    int port;
    net_open(&net);
    evl_os_sock_t bound = net_raw_bound(&port);
    fate_start(&fate, &net, port);
    fate.close_in_connect = 1;
    fate.connect_status = EVL_ECONNREFUSED;
    fate.write_status = EVL_ECANCELED;
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(fate.log.text, "c012X");
    os_close(bound);
    net_close(&net);
}

/* ---- Open ------------------------------------------------------------------------------------ */

TEST(tcp_open_socketpair_end) {
    net_t net;
    evl_tcp_t tcp;
    evl_os_sock_t fds[2];
    net_sink_t sink;
    char bytes[500];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    CHECK_EQ(evl_socketpair(SOCK_STREAM, 0, fds, 0, 0), 0);
    os_check_nonblock(fds[0], 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    CHECK_EQ(net_fileno(&tcp), fds[0]);
    os_check_nonblock(fds[0], 1);
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 1);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 1);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, net_on_read), 0);
    net_raw_write(fds[1], net_bytes(0), 700);
    NET_UNTIL(&net.loop, sink.bytes == 700);
    evl_buf_t buf = net_buf(0, sizeof(bytes));
    CHECK_EQ(evl_try_write(net_stream(&tcp), &buf, 1), sizeof(bytes));
    net_raw_read(fds[1], bytes, sizeof(bytes));
    net_check(bytes, 0, sizeof(bytes));
    os_close(fds[1]);
    NET_UNTIL(&net.loop, sink.ends == 1);
    CHECK_EQ(sink.end, EVL_EOF);
    net_close(&net);
    CHECK_EQ(os_is_open(fds[0]), 0); /* the socket was the handle's */
}

TEST(tcp_open_bad_descriptors) {
    net_t net;
    evl_tcp_t tcp;
    evl_file pipes[2];
    net_open(&net);
    CHECK_EQ(evl_pipe(pipes, 0, 0), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, OS_NO_SOCK), OS_BAD_SOCK);
    CHECK_EQ(evl_tcp_open(&tcp, 1000), OS_BAD_SOCK);
    CHECK_EQ(evl_tcp_open(&tcp, os_file_handle(pipes[0])), EVL_ENOTSOCK);
    os_check_file_flags(pipes[0], 0); /* nothing has changed */
    os_file_close(pipes[0]);
    os_file_close(pipes[1]);
    /* After all that the handle still takes a good one. */
    evl_os_sock_t fds[2];
    net_raw_pair(fds);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    os_close(fds[1]);
    net_close(&net);
}

TEST(tcp_open_twice) {
    net_t net;
    evl_tcp_t tcp, other;
    net_sink_t sink;
    evl_os_sock_t fds[2];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    net_raw_pair(fds);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), EVL_EBUSY);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(evl_tcp_init(&net.loop, &other), 0);
    CHECK_EQ(evl_tcp_open(&other, net_fileno(&tcp)), EVL_EEXIST);
    CHECK_EQ(evl_tcp_open(&other, fds[0]), 0);
    net_raw_write(peer, net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    os_close(fds[1]);
    os_close(peer);
    net_close(&net);
}

TEST(tcp_open_listening_socket) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    int port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(4, &port);
    CHECK_EQ(evl_tcp_init(&net.loop, &server), 0);
    CHECK_EQ(evl_tcp_open(&server, listener), 0);
    server.data = hall;
    CHECK_EQ(evl_listen(net_stream(&server), 4, net_on_connection), 0);
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 1);
    os_check_flags(net_fileno(&hall->guests[0]), 1);
    os_close(client);
    net_close(&net);
    free(hall);
}

/* A socket that is not connected yet, adopted and then connected. */
TEST(tcp_open_then_connect) {
    net_t net;
    evl_tcp_t tcp;
    dial_t dial;
    net_sink_t sink;
    int port;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t listener = net_raw_listen(4, &port);
    evl_os_sock_t fd = net_raw_socket();
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fd), 0);
    CHECK_EQ(dial_start(&dial, &tcp, net_sa(&addr)), 0);
    NET_UNTIL(&net.loop, dial.calls == 1);
    CHECK_EQ(dial.status, 0);
    CHECK_EQ(net_fileno(&tcp), fd);
    evl_os_sock_t peer = net_raw_accept(listener);
    net_raw_write(peer, net_bytes(0), 10);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    os_close(peer);
    os_close(listener);
    net_close(&net);
}

/* ---- Options --------------------------------------------------------------------------------- */

TEST(tcp_nodelay) {
    net_t net;
    evl_tcp_t tcp, early;
    dial_t dial;
    int port;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(net_raw_option(net_fileno(&tcp), IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_EQ(evl_tcp_nodelay(&tcp, 1), 0);
    CHECK_NE(net_raw_option(net_fileno(&tcp), IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_EQ(evl_tcp_nodelay(&tcp, 0), 0);
    CHECK_EQ(net_raw_option(net_fileno(&tcp), IPPROTO_TCP, TCP_NODELAY), 0);
    os_close(peer);

    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &early), 0);
    CHECK_EQ(evl_tcp_nodelay(&early, 1), 0);
    CHECK_EQ(evl_tcp_keepalive(&early, 1, 77), 0);
    CHECK_EQ(dial_start(&dial, &early, net_sa(&addr)), 0);
    CHECK_NE(net_raw_option(net_fileno(&early), IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_NE(net_raw_option(net_fileno(&early), SOL_SOCKET, SO_KEEPALIVE), 0);
    NET_UNTIL(&net.loop, dial.calls == 1);
    os_close(listener);
    net_close(&net);
}

static void check_keepalive(const evl_tcp_t *tcp, int idle, int intvl, int cnt) {
    evl_os_sock_t fd = net_fileno(tcp);
    CHECK_NE(net_raw_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    os_check_keepalive(fd, idle, intvl, cnt);
}

TEST(tcp_keepalive) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_KEEPALIVE), 0);
    CHECK_EQ(evl_tcp_keepalive_ex(&tcp, 1, 120, 7, 5), 0);
    check_keepalive(&tcp, 120, 7, 5);
    CHECK_EQ(evl_tcp_keepalive(&tcp, 1, 30), 0);
    check_keepalive(&tcp, 30, 1, 10);
    CHECK_EQ(evl_tcp_keepalive_ex(&tcp, 1, 0, 1, 1), EVL_EINVAL);
    CHECK_EQ(evl_tcp_keepalive_ex(&tcp, 1, 1, 0, 1), EVL_EINVAL);
    CHECK_EQ(evl_tcp_keepalive_ex(&tcp, 1, 1, 1, 0), EVL_EINVAL);
    CHECK_EQ(evl_tcp_keepalive(&tcp, 1, 0), EVL_EINVAL);
    CHECK_EQ(evl_tcp_keepalive(&tcp, 0, 0), 0);
    CHECK_EQ(net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_KEEPALIVE), 0);
    os_close(peer);
    net_close(&net);
}

/* What was set before there was a socket reaches it, wherever it comes from. */
TEST(tcp_options_before_the_socket) {
    net_t net;
    evl_tcp_t opened, bound, undone;
    evl_os_sock_t fds[2], other[2];
    struct sockaddr_in addr = net_addr(0);
    net_open(&net);
    net_raw_pair(fds);
    CHECK_EQ(evl_tcp_init(&net.loop, &opened), 0);
    CHECK_EQ(evl_tcp_nodelay(&opened, 1), 0);
    CHECK_EQ(evl_tcp_keepalive_ex(&opened, 1, 33, 3, 4), 0);
    CHECK_EQ(evl_tcp_open(&opened, fds[0]), 0);
    CHECK_NE(net_raw_option(fds[0], IPPROTO_TCP, TCP_NODELAY), 0);
    check_keepalive(&opened, 60, 1, 10);

    CHECK_EQ(evl_tcp_init(&net.loop, &bound), 0);
    CHECK_EQ(evl_tcp_nodelay(&bound, 1), 0);
    CHECK_EQ(evl_tcp_bind(&bound, net_sa(&addr), 0), 0);
    CHECK_NE(net_raw_option(net_fileno(&bound), IPPROTO_TCP, TCP_NODELAY), 0);

    net_raw_pair(other);
    CHECK_EQ(evl_tcp_init(&net.loop, &undone), 0);
    CHECK_EQ(evl_tcp_nodelay(&undone, 1), 0);
    CHECK_EQ(evl_tcp_nodelay(&undone, 0), 0);
    CHECK_EQ(evl_tcp_keepalive(&undone, 1, 9), 0);
    CHECK_EQ(evl_tcp_keepalive(&undone, 0, 0), 0);
    CHECK_EQ(evl_tcp_open(&undone, other[0]), 0);
    CHECK_EQ(net_raw_option(other[0], IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_EQ(net_raw_option(other[0], SOL_SOCKET, SO_KEEPALIVE), 0);
    os_close(fds[1]);
    os_close(other[1]);
    net_close(&net);
}

static void on_connection_with_options(evl_stream_t *server, int status) {
    evl_tcp_t *guest = (evl_tcp_t *)server->data;
    CHECK_EQ(status, 0);
    CHECK_EQ(evl_tcp_init(server->loop, guest), 0);
    CHECK_EQ(evl_tcp_nodelay(guest, 1), 0);
    CHECK_EQ(evl_tcp_keepalive(guest, 1, 60), 0);
    CHECK_EQ(evl_accept(server, net_stream(guest)), 0);
    guest->data = guest;
}

TEST(tcp_options_before_accept) {
    net_t net;
    evl_tcp_t server, guest;
    net_open(&net);
    int port = net_listen(&net, &server, 1, on_connection_with_options);
    server.data = &guest;
    guest.data = NULL;
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, guest.data == &guest);
    CHECK_NE(net_raw_option(net_fileno(&guest), IPPROTO_TCP, TCP_NODELAY), 0);
    check_keepalive(&guest, 60, 1, 10);
    os_close(client);
    net_close(&net);
}

TEST(tcp_simultaneous_accepts) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_simultaneous_accepts(&tcp, 1), 0);
    CHECK_EQ(evl_tcp_simultaneous_accepts(&tcp, 0), 0);
    net_close(&net);
}

TEST(tcp_buffer_sizes) {
    net_t net;
    evl_tcp_t tcp, none;
    evl_timer_t timer;
    int value = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(evl_send_buffer_size(net_handle(&tcp), &value), 0);
    CHECK_EQ(value, net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_SNDBUF));
    CHECK_GT(value, 0);
    value = 20000;
    CHECK_EQ(evl_send_buffer_size(net_handle(&tcp), &value), 0);
    CHECK_GE(net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_SNDBUF), 20000);
    value = 0;
    CHECK_EQ(evl_recv_buffer_size(net_handle(&tcp), &value), 0);
    CHECK_EQ(value, net_raw_option(net_fileno(&tcp), SOL_SOCKET, SO_RCVBUF));
    value = 30000;
    CHECK_EQ(evl_recv_buffer_size(net_handle(&tcp), &value), 0);
    value = 0;
    CHECK_EQ(evl_recv_buffer_size(net_handle(&tcp), &value), 0);
    CHECK_GE(value, 30000);
    CHECK_LE(value, 60000);

    CHECK_EQ(evl_send_buffer_size(net_handle(&tcp), NULL), EVL_EINVAL);
    CHECK_EQ(evl_recv_buffer_size(net_handle(&tcp), NULL), EVL_EINVAL);
    CHECK_EQ(evl_send_buffer_size(NULL, &value), EVL_EINVAL);
    CHECK_EQ(evl_recv_buffer_size(NULL, &value), EVL_EINVAL);
    CHECK_EQ(evl_timer_init(&net.loop, &timer), 0);
    CHECK_EQ(evl_send_buffer_size((evl_handle_t *)&timer, &value), EVL_ENOTSUP);
    CHECK_EQ(evl_recv_buffer_size((evl_handle_t *)&timer, &value), EVL_ENOTSUP);
    CHECK_EQ(evl_tcp_init(&net.loop, &none), 0);
    CHECK_EQ(evl_send_buffer_size(net_handle(&none), &value), EVL_EBADF);
    CHECK_EQ(evl_recv_buffer_size(net_handle(&none), &value), EVL_EBADF);
    os_close(peer);
    net_close(&net);
}

TEST(tcp_fileno) {
    net_t net;
    evl_tcp_t tcp, none;
    evl_timer_t timer;
    evl_os_fd_t fd;
    evl_os_sock_t fds[2];
    net_open(&net);
    net_raw_pair(fds);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    CHECK_EQ(evl_fileno(net_handle(&tcp), &fd), 0);
    CHECK_EQ((evl_os_sock_t)fd, fds[0]);
    CHECK_EQ(evl_tcp_init(&net.loop, &none), 0);
    CHECK_EQ(evl_fileno(net_handle(&none), &fd), EVL_EBADF);
    CHECK_EQ(evl_timer_init(&net.loop, &timer), 0);
    CHECK_EQ(evl_fileno((evl_handle_t *)&timer, &fd), EVL_EINVAL);
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(evl_fileno(net_handle(&tcp), &fd), EVL_EBADF);
    os_close(fds[1]);
    net_close(&net);
}

/* Whatever the loop opens for itself is close-on-exec. */
TEST(tcp_every_descriptor_is_close_on_exec) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server, client;
    dial_t dial;
    int before = os_inheritable();
    net_open(&net);
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &client), 0);
    CHECK_EQ(dial_start(&dial, &client, net_sa(&addr)), 0);
    NET_UNTIL(&net.loop, dial.calls == 1 && hall->count == 1);
    evl_async_t async; /* for what makes the loop wake up */
    CHECK_EQ(evl_async_init(&net.loop, &async, NULL), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK(os_is_open(net_fileno(&server)));
    CHECK(os_is_open(net_fileno(&client)));
    CHECK(os_is_open(net_fileno(&hall->guests[0])));
    CHECK_EQ(os_inheritable(), before);
    net_close(&net);
    free(hall);
}

TEST(tcp_socketpair_flags) {
    evl_os_sock_t fds[2];
    net_watch();
    for (int mode = 0; mode < 4; mode++) {
        int flags0 = (mode & 1) != 0 ? EVL_NONBLOCK_PIPE : 0;
        int flags1 = (mode & 2) != 0 ? EVL_NONBLOCK_PIPE : 0;
        int type = mode == 3 ? OS_PAIR_DGRAM : SOCK_STREAM;
        char byte = 0;
        CHECK_EQ(evl_socketpair(type, 0, fds, flags0, flags1), 0);
        os_check_flags(fds[0], flags0 != 0);
        os_check_flags(fds[1], flags1 != 0);
        CHECK_EQ(net_raw_option(fds[0], SOL_SOCKET, SO_TYPE), type);
        net_raw_write(fds[0], "x", 1);
        net_raw_await(fds[1]);
        net_raw_read(fds[1], &byte, 1);
        net_raw_write(fds[1], "y", 1);
        net_raw_await(fds[0]);
        net_raw_read(fds[0], &byte, 1);
        CHECK_EQ(byte, 'y');
        os_close(fds[0]);
        os_close(fds[1]);
    }
    int fds_before = test_open_fds();
    CHECK_LT(evl_socketpair(12345, 0, fds, 0, 0), 0);
    CHECK_LT(evl_socketpair(SOCK_STREAM, 12345, fds, 0, 0), 0);
    CHECK_EQ(test_open_fds(), fds_before);
}

TEST(tcp_pipe_flags) {
    evl_file fds[2];
    net_watch();
    for (int mode = 0; mode < 4; mode++) {
        int read_flags = (mode & 1) != 0 ? EVL_NONBLOCK_PIPE : 0;
        int write_flags = (mode & 2) != 0 ? EVL_NONBLOCK_PIPE : 0;
        char byte = 0;
        CHECK_EQ(evl_pipe(fds, read_flags, write_flags), 0);
        os_check_file_flags(fds[0], read_flags != 0);
        os_check_file_flags(fds[1], write_flags != 0);
        CHECK_EQ(os_file_write(fds[1], "x", 1), 1);
        CHECK_EQ(os_file_read(fds[0], &byte, 1), 1);
        CHECK_EQ(byte, 'x');
        os_file_close(fds[0]);
        os_file_close(fds[1]);
    }
}

/* ---- Accept ---------------------------------------------------------------------------------- */

TEST(tcp_accept_without_a_connection) {
    net_t net;
    evl_tcp_t server, guest, plain;
    net_open(&net);
    net_listen(&net, &server, 4, on_connection_never);
    CHECK_EQ(evl_tcp_init(&net.loop, &guest), 0);
    CHECK_EQ(evl_accept(net_stream(&server), net_stream(&guest)), EVL_EAGAIN);
    CHECK_EQ(evl_tcp_init(&net.loop, &plain), 0);
    CHECK_EQ(evl_accept(net_stream(&plain), net_stream(&guest)), EVL_EAGAIN);
    net_close(&net);
}

/* What is not taken is kept, the listener pauses, and goes on with the accept. */
TEST(tcp_accept_later) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    net_sink_t sink;
    evl_tcp_t server;
    evl_os_sock_t clients[3];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    hall->no_fetch = 1;
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    net_raw_write(clients[0], net_bytes(0), 300);
    NET_UNTIL(&net.loop, hall->calls == 1);
    CHECK_LE(net_run_ms(&net.loop, 30), 10);
    CHECK_EQ(hall->calls, 1);

    net_admit(hall, net_stream(&server));
    CHECK_EQ(hall->calls, 1); /* not from inside evl_accept */
    NET_UNTIL(&net.loop, hall->calls == 2);
    CHECK_LE(net_run_ms(&net.loop, 20), 10);
    CHECK_EQ(hall->calls, 2);
    hall->no_fetch = 0;
    net_admit(hall, net_stream(&server));
    NET_UNTIL(&net.loop, hall->count == 3);
    CHECK_EQ(hall->calls, 3);
    CHECK_EQ(evl_accept(net_stream(&server), net_stream(&hall->guests[0])), EVL_EAGAIN);

    hall->guests[0].data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&hall->guests[0]), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 300);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

/* An accept that fails leaves the connection where it was. */
TEST(tcp_accept_into_the_wrong_handle) {
    net_t net;
    evl_loop_t other_loop;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server, busy, stranger;
    evl_timer_t timer;
    net_open(&net);
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    hall->no_fetch = 1;
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->calls == 1);
    evl_os_sock_t peer = net_half(&net, &busy);
    CHECK_EQ(evl_accept(net_stream(&server), net_stream(&busy)), EVL_EBUSY);
    CHECK_EQ(evl_timer_init(&net.loop, &timer), 0);
    CHECK_EQ(evl_accept(net_stream(&server), (evl_stream_t *)&timer), EVL_EINVAL);
    CHECK_EQ(evl_loop_init(&other_loop), 0);
    CHECK_EQ(evl_tcp_init(&other_loop, &stranger), 0);
    CHECK_EQ(evl_accept(net_stream(&server), net_stream(&stranger)), EVL_EINVAL);
    evl_close(net_handle(&stranger), NULL);
    evl_run(&other_loop, EVL_RUN_DEFAULT);
    CHECK_EQ(evl_loop_close(&other_loop), 0);
    net_admit(hall, net_stream(&server));
    net_raw_write(client, "x", 1);
    net_raw_await(net_fileno(&hall->guests[0]));
    os_close(peer);
    os_close(client);
    net_close(&net);
    free(hall);
}

TEST(tcp_accept_many_at_once) {
    enum { CLIENTS = OS_BACKLOG };
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[CLIENTS];
    net_open(&net);
    int port = net_listen(&net, &server, 256, net_on_connection);
    server.data = hall;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == CLIENTS);
    CHECK_EQ(hall->errors, 0);
    for (int i = 0; i < CLIENTS; i++)
        os_close(clients[i]);
    net_close(&net);
    CHECK_EQ(hall->calls, CLIENTS);
    free(hall);
}

/* The same through the library: connect, accept and close, all at once. */
TEST(tcp_connect_many_at_once) {
    enum { CLIENTS = OS_BACKLOG };
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t *clients = (evl_tcp_t *)calloc(CLIENTS, sizeof(evl_tcp_t));
    dial_t *dials = (dial_t *)calloc(CLIENTS, sizeof(dial_t));
    evl_tcp_t server;
    net_open(&net);
    int port = net_listen(&net, &server, 256, net_on_connection);
    server.data = hall;
    struct sockaddr_in addr = net_addr(port);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_EQ(evl_tcp_init(&net.loop, &clients[i]), 0);
        CHECK_EQ(dial_start(&dials[i], &clients[i], net_sa(&addr)), 0);
    }
    int connected = 0;
    while (connected < CLIENTS || hall->count < CLIENTS) {
        CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
        connected = 0;
        for (int i = 0; i < CLIENTS; i++) {
            CHECK_EQ(dials[i].status, 0);
            CHECK_LE(dials[i].calls, 1);
            connected += dials[i].calls;
        }
    }
    net_close(&net);
    free(dials);
    free(clients);
    free(hall);
}

static void on_connection_close_server(evl_stream_t *server, int status) {
    CHECK_EQ(status, 0);
    (*(int *)server->data)++;
    evl_close((evl_handle_t *)server, NULL);
}

/* The one that was announced and those in the backlog are let go. */
TEST(tcp_close_server_in_connection_callback) {
    net_t net;
    evl_tcp_t server;
    int calls = 0;
    evl_os_sock_t clients[3];
    char byte;
    net_open(&net);
    int port = net_listen(&net, &server, 4, on_connection_close_server);
    server.data = &calls;
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1);
    for (size_t i = 0; i < NET_COUNT(clients); i++) {
        net_raw_await(clients[i]);
        CHECK_LE(os_recv(clients[i], &byte, 1), 0);
        os_close(clients[i]);
    }
    net_close(&net);
}

static void on_connection_accept_and_close(evl_stream_t *server, int status) {
    net_hall_t *hall = (net_hall_t *)server->data;
    CHECK_EQ(status, 0);
    net_admit(hall, server);
    evl_close(net_handle(&hall->guests[hall->count - 1]), NULL);
}

TEST(tcp_close_guest_in_connection_callback) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[5];
    net_open(&net);
    int port = net_listen(&net, &server, 8, on_connection_accept_and_close);
    server.data = hall;
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 5);
    for (size_t i = 0; i < NET_COUNT(clients); i++) {
        char byte;
        net_raw_await(clients[i]);
        CHECK_EQ(os_recv(clients[i], &byte, 1), 0);
        os_close(clients[i]);
    }
    net_close(&net);
    free(hall);
}

TEST(tcp_close_server_with_a_kept_connection) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    char byte;
    net_open(&net);
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    hall->no_fetch = 1;
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->calls == 1);
    evl_close(net_handle(&server), NULL);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    net_raw_await(client);
    CHECK_LE(os_recv(client, &byte, 1), 0);
    os_close(client);
    net_close(&net);
    free(hall);
}

/* Clients that are gone before they were accepted do no harm. */
TEST(tcp_accept_clients_that_left) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    net_open(&net);
    int port = net_listen(&net, &server, 16, net_on_connection);
    server.data = hall;
    for (int i = 0; i < 5; i++)
        net_raw_reset(net_raw_connect(port));
    for (int i = 0; i < 5; i++)
        os_close(net_raw_connect(port));
    evl_os_sock_t last = net_raw_connect(port);
    net_raw_write(last, "x", 1);
    /* The kernel may or may not announce the dead ones; the last must come. */
    char byte = 0;
    while (byte != 'x') {
        CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
        for (int i = 0; i < hall->count; i++)
            if (os_recv_now(net_fileno(&hall->guests[i]), &byte, 1) == 1)
                break;
    }
    CHECK_EQ(hall->errors, 0);
    os_close(last);
    net_close(&net);
    free(hall);
}

/* ---- Reset ----------------------------------------------------------------------------------- */

TEST(tcp_close_reset_is_seen_by_the_peer) {
    net_t net;
    evl_tcp_t a, b;
    net_sink_t sink;
    int closed = 0;
    net_need_resets();
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    net_pair(&net, &a, &b);
    a.data = &closed;
    b.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&b), net_alloc, net_on_read), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(evl_tcp_close_reset(&a, net_flag_close), 0);
    CHECK_EQ(evl_is_closing(net_handle(&a)), 1);
    CHECK_EQ(closed, 0);
    NET_UNTIL(&net.loop, closed && sink.ends > 0);
    CHECK_EQ(sink.end, EVL_ECONNRESET);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(sink.ends, 1);
    CHECK_EQ(evl_is_active(net_handle(&b)), 0);
    net_close(&net);
}

static void on_shutdown_note(evl_shutdown_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

TEST(tcp_close_reset_refused) {
    net_t net;
    evl_tcp_t tcp, none;
    evl_shutdown_t shut;
    int done = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    shut.data = &done;
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), on_shutdown_note), 0);
    CHECK_EQ(evl_tcp_close_reset(&tcp, net_flag_close), EVL_EINVAL);
    CHECK_EQ(evl_is_closing(net_handle(&tcp)), 0);
    NET_UNTIL(&net.loop, done);
    CHECK_EQ(evl_tcp_init(&net.loop, &none), 0);
    CHECK_EQ(evl_tcp_close_reset(&none, NULL), EVL_EBADF);
    CHECK_EQ(evl_is_closing(net_handle(&none)), 0);
    os_close(peer);
    net_close(&net);
}

/* With writes queued: they are cancelled, before the close callback. */
TEST(tcp_close_reset_with_queued_writes) {
    net_t net;
    fate_t fate;
    net_open(&net);
    memset(&fate, 0, sizeof(fate));
    evl_os_sock_t peer = net_half_tight(&net, &fate.tcp);
    fate.tcp.data = &fate;
    fate.write_status = EVL_ECANCELED;
    net_stuff(&fate.tcp);
    char *bytes = (char *)calloc(1, 1 << 20);
    for (size_t i = 0; i < NET_COUNT(fate.writes); i++) {
        evl_buf_t buf = evl_buf_init(bytes, 1 << 20);
        fate.writes[i].data = &fate;
        CHECK_EQ(evl_write(&fate.writes[i], net_stream(&fate.tcp), &buf, 1, fate_on_write), 0);
    }
    CHECK_EQ(evl_tcp_close_reset(&fate.tcp, fate_on_close), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(fate.log.text, "012X");
    free(bytes);
    os_close(peer);
    net_close(&net);
}

/* ---- Fork ------------------------------------------------------------------------------------ */

#if !defined(_WIN32)

/* The child: serves `wanted` clients of the inherited listener. */
static int fork_child(net_t *net, net_hall_t *hall, int wanted) {
    alarm(test_slow() ? 50 : 8);
    if (evl_loop_fork(&net->loop) != 0)
        return 10;
    while (hall->count < wanted)
        if (evl_run(&net->loop, EVL_RUN_ONCE) == 0)
            return 11;
    for (int i = 0; i < hall->count; i++) {
        evl_buf_t buf = net_buf(0, 100);
        if (evl_try_write(net_stream(&hall->guests[i]), &buf, 1) != 100)
            return 12;
    }
    evl_walk(&net->loop, net_close_one, NULL);
    evl_run(&net->loop, EVL_RUN_DEFAULT);
    return evl_loop_close(&net->loop) == 0 ? 42 : 13;
}

TEST(tcp_fork_child_serves_the_listener) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    char bytes[100];
    int status = 0;
    net_open(&net);
    int port = net_listen(&net, &server, 8, net_on_connection);
    server.data = hall;
    evl_os_sock_t first = net_raw_connect(port); /* so that the registration exists */
    NET_UNTIL(&net.loop, hall->count == 1);
    evl_close(net_handle(&hall->guests[0]), NULL);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    hall->count = 0;
    os_close(first);

    pid_t child = fork();
    CHECK_GE(child, 0);
    if (child == 0)
        _exit(fork_child(&net, hall, 2));
    evl_os_sock_t clients[2];
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    for (size_t i = 0; i < NET_COUNT(clients); i++) {
        net_raw_read(clients[i], bytes, sizeof(bytes));
        net_check(bytes, 0, sizeof(bytes));
        os_close(clients[i]);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
    CHECK_EQ(hall->count, 0);

    /* The parent's loop knows nothing of it and serves on. */
    evl_os_sock_t client = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 1);
    os_close(client);
    net_close(&net);
    free(hall);
}

/* A connection that was reading before the fork: the child's loop reads it, the parent's stays whole. */
TEST(tcp_fork_child_reads_a_connection) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    int status = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    NET_UNTIL(&net.loop, sink.bytes == 100);
    pid_t child = fork();
    CHECK_GE(child, 0);
    if (child == 0) {
        alarm(test_slow() ? 50 : 8);
        if (evl_loop_fork(&net.loop) != 0)
            _exit(10);
        net_raw_write(peer, net_bytes(100), 100);
        while (sink.bytes < 200)
            if (evl_run(&net.loop, EVL_RUN_ONCE) == 0)
                _exit(11);
        evl_close(net_handle(&tcp), NULL);
        evl_run(&net.loop, EVL_RUN_DEFAULT);
        _exit(42);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
    net_raw_write(peer, net_bytes(100), 50);
    NET_UNTIL(&net.loop, sink.bytes == 150);
    os_close(peer);
    net_close(&net);
}

#endif /* !_WIN32 */

#endif /* !EVLOOP_NO_NET */
