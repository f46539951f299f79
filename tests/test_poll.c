/* test_poll.c - poll handles: descriptors that somebody else reads, writes and closes. */
#include "net.h"

#include <sys/stat.h>

/* A poll handle and what its callback has seen. */
typedef struct {
    evl_poll_t poll;
    long calls;
    int status;
    int events;   /* of the last call */
    int seen;     /* of all calls */
    int allowed;  /* others are an error; 0: no check */
    int stop;     /* in the callback */
    int closes;   /* the handle, in the callback */
    int shuts_fd; /* … and the descriptor: after stop or close */
} watch_t;

static void watch_on_event(evl_poll_t *poll, int status, int events) {
    watch_t *watch = (watch_t *)poll->data;
    CHECK(!evl_is_closing((evl_handle_t *)poll));
    CHECK(evl_is_active((evl_handle_t *)poll) || status < 0);
    watch->calls++;
    watch->status = status;
    watch->events = events;
    watch->seen |= events;
    if (watch->allowed != 0)
        CHECK_EQ(events & ~watch->allowed, 0);
    evl_os_sock_t fd = OS_NO_SOCK;
    if (watch->shuts_fd)
        fd = net_fileno(poll);
    if (watch->stop)
        CHECK_EQ(evl_poll_stop(poll), 0);
    if (watch->closes)
        evl_close((evl_handle_t *)poll, NULL);
    if (watch->shuts_fd)
        os_close(fd);
}

static void watch_on_event_never(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
    NET_FAIL("this handle does not watch");
}

static void watch_init(watch_t *watch, net_t *net, evl_os_sock_t fd) {
    memset(watch, 0, sizeof(*watch));
    CHECK_EQ(os_poll_init(&net->loop, &watch->poll, fd), 0);
    watch->poll.data = watch;
}

static void watch_start(watch_t *watch, int events) {
    watch->allowed = events;
    CHECK_EQ(evl_poll_start(&watch->poll, events, watch_on_event), 0);
}

static void watch_open(watch_t *watch, net_t *net, evl_os_sock_t fd, int events) {
    watch_init(watch, net, fd);
    watch_start(watch, events);
}

static void local_pair(evl_os_sock_t fds[2]) {
    os_socketpair(fds);
}

static void close_pair(const evl_os_sock_t fds[2]) {
    os_close(fds[0]);
    os_close(fds[1]);
}

/* ---- Events ---------------------------------------------------------------------------------- */

TEST(poll_fresh_handle) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    os_check_nonblock(fds[0], 0);
    watch_init(&watch, &net, fds[0]);
    os_check_nonblock(fds[0], 1);
    CHECK_EQ(watch.poll.type, EVL_POLL);
    CHECK_EQ(net_fileno(&watch.poll), fds[0]);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    watch_start(&watch, EVL_READABLE);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 1);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    evl_unref((evl_handle_t *)&watch.poll);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    evl_close((evl_handle_t *)&watch.poll, NULL);
    evl_run(&net.loop, EVL_RUN_DEFAULT);
    CHECK_EQ(os_is_open(fds[0]), 1); /* it is its owner who closes it */
    close_pair(fds);
    net_close(&net);
}

/* The callback comes again as long as there is something to read. */
TEST(poll_readable_repeats) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    char byte;
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    CHECK_LE(net_run_ms(&net.loop, 5), 5);
    CHECK_EQ(watch.calls, 0);
    net_raw_write(fds[1], "x", 1);
    for (long round = 1; round <= 5; round++) {
        CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
        CHECK_EQ(watch.calls, round);
        CHECK_EQ(watch.status, 0);
        CHECK_EQ(watch.events, EVL_READABLE);
    }
    net_raw_read(fds[0], &byte, 1);
    CHECK_LE(net_run_ms(&net.loop, 5), 5);
    CHECK_EQ(watch.calls, 5);
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, watch.calls == 6);
    close_pair(fds);
    net_close(&net);
}

TEST(poll_writable_repeats) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    char bytes[4096];
    size_t got = 0;
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_WRITABLE);
    for (long round = 1; round <= 5; round++) {
        CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
        CHECK_EQ(watch.calls, round);
        CHECK_EQ(watch.events, EVL_WRITABLE);
    }
    memset(bytes, 'x', sizeof(bytes));
    while (os_send(fds[0], bytes, sizeof(bytes)) > 0) /* until it is full */
        continue;
    CHECK_LE(net_run_ms(&net.loop, 5), 5);
    CHECK_EQ(watch.calls, 5);
    while (os_recv_now(fds[1], bytes, sizeof(bytes)) > 0)
        got++;
    CHECK_GT(got, 0);
    NET_UNTIL(&net.loop, watch.calls == 6);
    close_pair(fds);
    net_close(&net);
}

TEST(poll_both_in_one_call) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    net_raw_write(fds[1], "x", 1);
    watch_open(&watch, &net, fds[0], EVL_READABLE | EVL_WRITABLE);
    CHECK_NE(evl_run(&net.loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(watch.calls, 1);
    CHECK_EQ(watch.events, EVL_READABLE | EVL_WRITABLE);
    close_pair(fds);
    net_close(&net);
}

/* Whether the system tells of the peer's end before the bytes in front of it were read. */
static int end_overtakes(void) {
    evl_os_sock_t fds[2];
    net_raw_pair(fds);
    net_raw_write(fds[1], "x", 1);
    CHECK_EQ(os_shutdown(fds[1]), 0);
    test_sleep_ms(20);
    CHECK_NE(os_poll(fds[0], POLLIN, 0) & POLLIN, 0);
    int told = os_poll_end(fds[0]);
    close_pair(fds);
    return told;
}

TEST(poll_disconnect) {
    os_need_half_close();
    for (int tcp = 0; tcp < 2; tcp++) {
        net_t net;
        watch_t watch;
        evl_os_sock_t fds[2];
        char byte;
        net_open(&net);
        if (tcp)
            net_raw_pair(fds);
        else
            local_pair(fds);
        watch_open(&watch, &net, fds[0], EVL_DISCONNECT);
        net_raw_write(fds[1], "x", 1); /* is none */
        CHECK_LE(net_run_ms(&net.loop, 5), 5);
        CHECK_EQ(watch.calls, 0);
        if (!end_overtakes())
            net_raw_read(fds[0], &byte, 1);
        CHECK_EQ(os_shutdown(fds[1]), 0);
        NET_UNTIL(&net.loop, watch.calls == 1);
        CHECK_EQ(watch.status, 0);
        CHECK_EQ(watch.events, EVL_DISCONNECT);
        watch_start(&watch, EVL_READABLE | EVL_DISCONNECT);
        NET_UNTIL(&net.loop, watch.calls == 2);
        CHECK_EQ(watch.events, EVL_READABLE | EVL_DISCONNECT);
        close_pair(fds);
        net_close(&net);
    }
}

TEST(poll_prioritized) {
    net_t net;
    watch_t watch, plain;
    evl_os_sock_t fds[2];
    char byte;
    os_need_urgent();
    net_open(&net);
    net_raw_pair(fds);
    evl_os_sock_t twin = os_dup(fds[0]); /* for a second handle */
    watch_open(&watch, &net, fds[0], EVL_PRIORITIZED);
    watch_open(&plain, &net, twin, EVL_READABLE);
    net_raw_write(fds[1], "a", 1);
    NET_UNTIL(&net.loop, plain.calls == 2);
    CHECK_EQ(watch.calls, 0);
    CHECK_EQ(send(fds[1], "!", 1, MSG_OOB), 1);
    NET_UNTIL(&net.loop, watch.calls == 2);
    CHECK_EQ(watch.status, 0);
    CHECK_EQ(watch.events, EVL_PRIORITIZED);
    CHECK_EQ(plain.status, 0);
    CHECK_EQ(recv(fds[0], &byte, 1, MSG_OOB), 1);
    CHECK_EQ(byte, '!');
    CHECK_EQ(evl_poll_stop(&plain.poll), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    long calls = watch.calls;
    CHECK_LE(net_run_ms(&net.loop, 5), 5);
    CHECK_EQ(watch.calls, calls);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    os_close(twin);
    close_pair(fds);
    net_close(&net);
}

#if !defined(_WIN32) /* which waits for sockets only */

/* A pipe whose other end is gone tells its watcher, whatever that waits for. */
TEST(poll_pipe_hangup) {
    net_t net;
    watch_t reader, writer;
    evl_file in[2], out[2];
    char byte;
    net_open(&net);
    CHECK_EQ(evl_pipe(in, 0, 0), 0);
    CHECK_EQ(evl_pipe(out, 0, 0), 0);
    CHECK_EQ(write(in[1], "x", 1), 1);
    os_close(in[1]);
    watch_open(&reader, &net, in[0], EVL_READABLE);
    NET_UNTIL(&net.loop, reader.calls == 1);
    CHECK_EQ(read(in[0], &byte, 1), 1);
    NET_UNTIL(&net.loop, reader.calls == 2);
    CHECK_EQ(reader.status, 0);
    CHECK_EQ(reader.events, EVL_READABLE);
    CHECK_EQ(read(in[0], &byte, 1), 0);
    CHECK_EQ(evl_poll_stop(&reader.poll), 0);

    watch_open(&writer, &net, out[1], EVL_WRITABLE);
    NET_UNTIL(&net.loop, writer.calls == 1);
    os_close(out[0]);
    NET_UNTIL(&net.loop, writer.calls == 2);
    CHECK(writer.status == EVL_EBADF || writer.events == EVL_WRITABLE);
    if (writer.status < 0)
        CHECK_EQ(evl_is_active((evl_handle_t *)&writer.poll), 0);
    evl_poll_stop(&writer.poll);
    os_close(in[0]);
    os_close(out[1]);
    net_close(&net);
}

#endif /* !_WIN32 */

/* The peer is gone for good: both directions are told, so that whoever tries learns why. */
TEST(poll_peer_closed) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    char byte;
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    os_close(fds[1]);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(watch.status, 0);
    CHECK_EQ(watch.events, EVL_READABLE);
    CHECK_EQ(os_recv(fds[0], &byte, 1), 0);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    os_close(fds[0]);
    net_close(&net);
}

/* Stopped, a hung-up descriptor costs nothing. */
TEST(poll_stopped_hangup_idles) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    os_close(fds[1]);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_EQ(watch.calls, 1);
    os_close(fds[0]);
    net_close(&net);
}

/* ---- Start, stop, close ---------------------------------------------------------------------- */

TEST(poll_start_with_new_events) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(watch.calls, 0);
    watch_start(&watch, EVL_WRITABLE); /* replaces, does not add */
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(watch.events, EVL_WRITABLE);
    watch_start(&watch, EVL_READABLE);
    NET_UNTIL(&net.loop, watch.calls == 2);
    CHECK_EQ(watch.events, EVL_READABLE);
    watch_start(&watch, EVL_DISCONNECT);
    CHECK_LE(net_run_ms(&net.loop, 5), 5);
    CHECK_EQ(watch.calls, 2);
    CHECK_EQ(evl_poll_start(&watch.poll, 0, watch_on_event_never), 0); /* stops */
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    watch_start(&watch, EVL_READABLE);
    NET_UNTIL(&net.loop, watch.calls == 3);
    close_pair(fds);
    net_close(&net);
}

TEST(poll_start_refused) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    watch_init(&watch, &net, fds[0]);
    CHECK_EQ(evl_poll_start(&watch.poll, 16, watch_on_event_never), EVL_EINVAL);
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_READABLE | 64, watch_on_event_never), EVL_EINVAL);
    CHECK_EQ(evl_poll_start(&watch.poll, -1, watch_on_event_never), EVL_EINVAL);
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_READABLE, NULL), EVL_EINVAL);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    watch_start(&watch, EVL_READABLE);
    CHECK_EQ(evl_poll_start(&watch.poll, 1024, watch_on_event_never), EVL_EINVAL);
    net_raw_write(fds[1], "x", 1); /* a refused start changes nothing */
    NET_UNTIL(&net.loop, watch.calls == 1);
    evl_close((evl_handle_t *)&watch.poll, NULL);
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_READABLE, watch_on_event_never), EVL_EINVAL);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    evl_run(&net.loop, EVL_RUN_DEFAULT);
    CHECK_EQ(watch.calls, 1);
    close_pair(fds);
    net_close(&net);
}

TEST(poll_init_refused) {
    net_t net;
    evl_poll_t poll;
    net_open(&net);
    CHECK_EQ(evl_poll_init(&net.loop, &poll, -1), OS_BAD_SOCK);
    CHECK_EQ(evl_poll_init_socket(&net.loop, &poll, OS_NO_SOCK), OS_BAD_SOCK);
    CHECK_EQ(evl_poll_init(&net.loop, &poll, 1000), OS_BAD_SOCK);
    evl_file file = os_some_file();
    CHECK_EQ(evl_poll_init(&net.loop, &poll, file), OS_NO_WAITING);
    CHECK_EQ(os_file_close(file), 0);
    evl_file directory = os_some_directory();
    CHECK_EQ(evl_poll_init(&net.loop, &poll, directory), OS_NO_WAITING);
    CHECK_EQ(os_file_close(directory), 0);
    memset(&poll, 0xA5, sizeof(poll)); /* none of them is the loop's */
    CHECK_EQ(evl_loop_close(&net.loop), 0);
    CHECK_EQ(test_open_fds(), net.fds);
}

/* Two handles may be made for a descriptor, and one at a time may watch it. */
TEST(poll_one_watcher_for_a_descriptor) {
    net_t net;
    watch_t first, second;
    evl_poll_t third;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    watch_init(&first, &net, fds[0]);
    watch_init(&second, &net, fds[0]);
    watch_start(&first, EVL_READABLE);
    CHECK_EQ(os_poll_init(&net.loop, &third, fds[0]), EVL_EEXIST);
    CHECK_EQ(evl_poll_start(&second.poll, EVL_READABLE, watch_on_event_never), EVL_EEXIST);
    CHECK_EQ(evl_is_active((evl_handle_t *)&second.poll), 0);
    CHECK_EQ(evl_poll_stop(&second.poll), 0); /* does not disturb the other */
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, first.calls == 1);
    CHECK_EQ(evl_poll_stop(&first.poll), 0);
    watch_start(&second, EVL_READABLE);
    NET_UNTIL(&net.loop, second.calls == 1);
    CHECK_EQ(first.calls, 1);
    evl_close((evl_handle_t *)&second.poll, NULL);
    watch_start(&first, EVL_READABLE);
    NET_UNTIL(&net.loop, first.calls == 2);
    CHECK_EQ(second.calls, 1);
    close_pair(fds);
    net_close(&net);
}

#ifndef EVLOOP_NO_NET
TEST(poll_and_stream_on_one_descriptor) {
    net_t net;
    evl_tcp_t tcp, other;
    evl_poll_t poll;
    watch_t watch;
    net_sink_t sink;
    evl_os_sock_t fds[2];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    CHECK_EQ(os_poll_init(&net.loop, &poll, net_fileno(&tcp)), EVL_EEXIST);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    CHECK_EQ(evl_tcp_init(&net.loop, &other), 0);
    CHECK_EQ(evl_tcp_open(&other, fds[0]), EVL_EEXIST);
    net_raw_write(peer, net_bytes(0), 5);
    NET_UNTIL(&net.loop, sink.bytes == 5);
    os_close(peer);
    close_pair(fds);
    net_close(&net);
}
#endif

/* In its own callback a handle stops or closes, and its descriptor is closed right away. */
TEST(poll_end_in_the_callback) {
    for (int mode = 0; mode < 4; mode++) {
        net_t net;
        watch_t watch;
        evl_os_sock_t fds[2];
        net_open(&net);
        local_pair(fds);
        net_raw_write(fds[1], "x", 1);
        watch_init(&watch, &net, fds[0]);
        watch.stop = (mode & 1) == 0;
        watch.closes = (mode & 1) == 1;
        watch.shuts_fd = (mode & 2) != 0;
        watch_start(&watch, EVL_READABLE);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(watch.calls, 1);
        if (!watch.shuts_fd)
            os_close(fds[0]);
        os_close(fds[1]);
        net_close(&net);
        CHECK_EQ(watch.calls, 1);
    }
}

/* Two are ready in one batch; the one that runs first ends the other, which must not be called. */
typedef struct {
    watch_t watch[2];
    int mode; /* 0: stop, 1: close, 2: start with other events */
    int calls;
} rivals_t;

static void rivals_on_event(evl_poll_t *poll, int status, int events) {
    rivals_t *rivals = (rivals_t *)poll->data;
    evl_poll_t *other = &rivals->watch[poll == &rivals->watch[0].poll ? 1 : 0].poll;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, EVL_READABLE);
    rivals->calls++;
    if (rivals->mode == 0)
        CHECK_EQ(evl_poll_stop(other), 0);
    else if (rivals->mode == 1)
        evl_close((evl_handle_t *)other, NULL);
    else
        CHECK_EQ(evl_poll_start(other, EVL_DISCONNECT, watch_on_event_never), 0);
    CHECK_EQ(evl_poll_stop(poll), 0);
}

TEST(poll_end_another_in_the_callback) {
    for (int mode = 0; mode < 3; mode++) {
        net_t net;
        rivals_t rivals;
        evl_os_sock_t fds[2][2];
        net_open(&net);
        memset(&rivals, 0, sizeof(rivals));
        rivals.mode = mode;
        for (int i = 0; i < 2; i++) {
            local_pair(fds[i]);
            net_raw_write(fds[i][1], "x", 1);
            watch_init(&rivals.watch[i], &net, fds[i][0]);
            rivals.watch[i].poll.data = &rivals;
            CHECK_EQ(evl_poll_start(&rivals.watch[i].poll, EVL_READABLE, rivals_on_event), 0);
        }
        evl_run(&net.loop, EVL_RUN_ONCE);
        net_run_ms(&net.loop, 2);
        CHECK_EQ(rivals.calls, 1);
        for (int i = 0; i < 2; i++)
            close_pair(fds[i]);
        net_close(&net);
    }
}

/* Memory is the user's after the close callback: poisoned, it stays as it is. */
static void poison_on_close(evl_handle_t *handle) {
    int *closed = (int *)handle->data;
    memset(handle, 0xA5, sizeof(evl_poll_t));
    (*closed)++;
}

static void poison_on_event(evl_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    evl_close((evl_handle_t *)poll, poison_on_close);
}

TEST(poll_close_gives_the_memory_back) {
    enum { COUNT = 20 };
    net_t net;
    evl_poll_t *polls = (evl_poll_t *)calloc(COUNT, sizeof(evl_poll_t));
    evl_os_sock_t fds[COUNT][2];
    int closed = 0;
    net_open(&net);
    for (int i = 0; i < COUNT; i++) {
        local_pair(fds[i]);
        CHECK_EQ(os_poll_init(&net.loop, &polls[i], fds[i][0]), 0);
        polls[i].data = &closed;
        CHECK_EQ(evl_poll_start(&polls[i], EVL_READABLE | EVL_WRITABLE, poison_on_event), 0);
    }
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(closed, COUNT);
    for (int i = 0; i < COUNT; i++)
        net_raw_write(fds[i][1], "x", 1);
    net_run_ms(&net.loop, 2);
    for (size_t i = 0; i < COUNT * sizeof(evl_poll_t); i++)
        CHECK_EQ(((unsigned char *)polls)[i], 0xA5);
    for (int i = 0; i < COUNT; i++)
        close_pair(fds[i]);
    net_close(&net);
    free(polls);
}

/* ---- Many ------------------------------------------------------------------------------------ */

typedef struct {
    evl_poll_t poll;
    evl_os_sock_t fd;
    evl_os_sock_t next_fd;
    long left; /* bytes to pass on */
    long seen;
} relay_t;

static void relay_on_event(evl_poll_t *poll, int status, int events) {
    relay_t *relay = (relay_t *)poll->data;
    char byte;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, EVL_READABLE);
    CHECK_EQ(os_recv(relay->fd, &byte, 1), 1);
    relay->seen++;
    if (relay->left-- > 0)
        net_raw_write(relay->next_fd, &byte, 1);
}

/* A byte goes round in a ring of 100 pairs. */
TEST(poll_ring_of_100) {
    enum { COUNT = 100, ROUNDS = 20 };
    net_t net;
    relay_t *relays = (relay_t *)calloc(COUNT, sizeof(relay_t));
    evl_os_sock_t fds[COUNT][2];
    net_open(&net);
    for (int i = 0; i < COUNT; i++)
        local_pair(fds[i]);
    for (int i = 0; i < COUNT; i++) {
        relays[i].fd = fds[i][0];
        relays[i].next_fd = fds[(i + 1) % COUNT][1];
        relays[i].left = i == COUNT - 1 ? ROUNDS - 1 : ROUNDS;
        CHECK_EQ(evl_poll_init_socket(&net.loop, &relays[i].poll, fds[i][0]), 0);
        relays[i].poll.data = &relays[i];
        CHECK_EQ(evl_poll_start(&relays[i].poll, EVL_READABLE, relay_on_event), 0);
    }
    net_raw_write(fds[0][1], "o", 1);
    NET_UNTIL(&net.loop, relays[COUNT - 1].seen == ROUNDS);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(relays[i].seen, ROUNDS);
    for (int i = 0; i < COUNT; i++)
        close_pair(fds[i]);
    net_close(&net);
    free(relays);
}

/* All ready at once: every one is called in one turn. */
TEST(poll_450_ready_at_once) {
    enum { COUNT = 450 };
    net_t net;
    watch_t *watches = (watch_t *)calloc(COUNT, sizeof(watch_t));
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    net_raw_write(fds[1], "x", 1);
    for (int i = 0; i < COUNT; i++) {
        evl_os_sock_t fd = os_dup(fds[0]);
        watch_init(&watches[i], &net, fd);
        watches[i].closes = 1;
        watches[i].shuts_fd = 1;
        watch_start(&watches[i], EVL_READABLE);
    }
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(watches[i].calls, 1);
    close_pair(fds);
    net_close(&net);
    free(watches);
}

/* ---- Descriptors that are closed, reused, shared --------------------------------------------- */

/* Its owner closes a watched descriptor: an error or silence, but no abort and no spin; after that
 * the number serves another. */
TEST(poll_foreign_close) {
    net_t net;
    watch_t watch, fresh;
    evl_os_sock_t fds[2], next[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    evl_os_sock_t number = fds[0];
    os_close(fds[0]);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_LE(watch.calls, 1);
    if (watch.calls == 1) {
        CHECK_LT(watch.status, 0);
        CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    }
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    evl_close((evl_handle_t *)&watch.poll, NULL);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_pair_at(next, number);
    watch_open(&fresh, &net, next[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(fresh.calls, 0);
    net_raw_write(next[1], "x", 1);
    NET_UNTIL(&net.loop, fresh.calls == 1);
    CHECK_EQ(fresh.status, 0);
    os_close(fds[1]);
    close_pair(next);
    net_close(&net);
}

/* The number is another file's before the handle hears of it: to go on watching is an error or
 * watches the new file, and stopping harms nobody. */
TEST(poll_foreign_close_and_reuse) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2], next[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    evl_os_sock_t number = fds[0];
    os_close(fds[0]);
    net_raw_pair_at(next, number);
    watch.allowed = 0;
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_READABLE | EVL_WRITABLE, watch_on_event), 0);
    NET_UNTIL(&net.loop, watch.calls > 0);
    CHECK(watch.status == 0 || (OS_TELLS_CLOSE && watch.status == EVL_EBADF));
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    long calls = watch.calls;
    net_raw_write(next[1], "x", 1);
    CHECK_LE(net_run_ms(&net.loop, 5), 8);
    CHECK_EQ(watch.calls, calls);
    os_close(fds[1]);
    close_pair(next);
    net_close(&net);
}

/* Closed by its owner while a duplicate keeps the file alive: the kernel goes on telling of it. It
 * has to end when the handle stops, and never reach another one. */
TEST(poll_foreign_close_with_a_duplicate) {
    net_t net;
    watch_t watch, fresh;
    evl_os_sock_t fds[2], next[2];
    SKIP_ON_LIBKQUEUE("a descriptor that is closed stays watched while a duplicate is open");
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    evl_os_sock_t number = fds[0];
    evl_os_sock_t twin = os_dup(fds[0]);
    os_close(fds[0]);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    evl_close((evl_handle_t *)&watch.poll, NULL);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_pair_at(next, number);
    watch_open(&fresh, &net, next[0], EVL_READABLE);
    net_raw_write(fds[1], "x", 1); /* readable for ever, under the old number */
    CHECK_LE(net_run_ms(&net.loop, 30), 10);
    CHECK_EQ(watch.calls, 0);
    CHECK_EQ(fresh.calls, 0);
    net_raw_write(next[1], "x", 1);
    NET_UNTIL(&net.loop, fresh.calls == 1);
    os_close(twin);
    os_close(fds[1]);
    close_pair(next);
    net_close(&net);
}

/* The owner does it right, stop and then close; a duplicate lives, and the number is reused. */
TEST(poll_stop_close_reuse_with_a_duplicate) {
    net_t net;
    watch_t watch, fresh;
    evl_os_sock_t fds[2], next[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    evl_os_sock_t number = fds[0];
    evl_os_sock_t twin = os_dup(fds[0]);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    os_close(fds[0]);
    net_raw_pair_at(next, number);
    watch_open(&fresh, &net, next[0], EVL_READABLE);
    net_raw_write(fds[1], "x", 1);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_EQ(watch.calls + fresh.calls, 0);
    /* The duplicate comes back under the number: the same file as before, watched anew. */
    CHECK_EQ(evl_poll_stop(&fresh.poll), 0);
    os_dup_at(twin, number);
    os_close(twin);
    watch_start(&watch, EVL_READABLE);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(fresh.calls, 0);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    os_close(number);
    os_close(fds[1]);
    os_close(next[1]);
    net_close(&net);
}

/* In one batch the first callback ends the second handle, closes its descriptor, and a new one gets
 * the number: the event that is left over is not for it. */
typedef struct {
    watch_t watch[2];
    watch_t fresh;
    evl_os_sock_t fds[2][2];
    evl_os_sock_t next[2];
    int calls;
    int mode; /* of the old handle: 0 stop, 1 close */
    net_t *net;
} batch_t;

static void batch_on_event(evl_poll_t *poll, int status, int events) {
    batch_t *batch = (batch_t *)poll->data;
    int other = poll == &batch->watch[0].poll ? 1 : 0;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, EVL_READABLE);
    batch->calls++;
    if (batch->mode == 0)
        CHECK_EQ(evl_poll_stop(&batch->watch[other].poll), 0);
    else
        evl_close((evl_handle_t *)&batch->watch[other].poll, NULL);
    evl_os_sock_t number = batch->fds[other][0];
    os_close(number);
    net_raw_pair_at(batch->next, number);
    batch->fds[other][0] = OS_NO_SOCK;
    watch_open(&batch->fresh, batch->net, number, EVL_READABLE);
    CHECK_EQ(evl_poll_stop(poll), 0);
}

TEST(poll_reused_descriptor_in_a_batch) {
    for (int mode = 0; mode < 2; mode++) {
        net_t net;
        batch_t batch;
        net_open(&net);
        memset(&batch, 0, sizeof(batch));
        batch.net = &net;
        batch.mode = mode;
        for (int i = 0; i < 2; i++) {
            local_pair(batch.fds[i]);
            watch_init(&batch.watch[i], &net, batch.fds[i][0]);
            batch.watch[i].poll.data = &batch;
            CHECK_EQ(evl_poll_start(&batch.watch[i].poll, EVL_READABLE, batch_on_event), 0);
            net_raw_write(batch.fds[i][1], "x", 1);
        }
        NET_UNTIL(&net.loop, batch.calls == 1);
        CHECK_LE(net_run_ms(&net.loop, 5), 5);
        CHECK_EQ(batch.calls, 1);
        CHECK_EQ(batch.fresh.calls, 0);
        net_raw_write(batch.next[1], "x", 1);
        NET_UNTIL(&net.loop, batch.fresh.calls == 1);
        for (int i = 0; i < 2; i++) {
            if (batch.fds[i][0] != OS_NO_SOCK)
                os_close(batch.fds[i][0]);
            os_close(batch.fds[i][1]);
        }
        close_pair(batch.next);
        net_close(&net);
    }
}

/* ---- Fork ------------------------------------------------------------------------------------ */

#if !defined(_WIN32) /* which has no fork */

/* The child's loop watches on its own; what it does is not seen by the parent's. */
TEST(poll_fork) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    int status = 0;
    char byte;
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    pid_t child = fork();
    CHECK_GE(child, 0);
    if (child == 0) {
        alarm(test_slow() ? 50 : 8);
        if (evl_loop_fork(&net.loop) != 0)
            _exit(10);
        net_raw_write(fds[1], "x", 1);
        while (watch.calls == 0)
            if (evl_run(&net.loop, EVL_RUN_ONCE) == 0)
                _exit(11);
        if (read(fds[0], &byte, 1) != 1)
            _exit(12);
        evl_close((evl_handle_t *)&watch.poll, NULL);
        evl_run(&net.loop, EVL_RUN_DEFAULT);
        _exit(evl_loop_close(&net.loop) == 0 ? 42 : 13);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
    CHECK_EQ(watch.calls, 0);
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, watch.calls == 1);
    close_pair(fds);
    net_close(&net);
}

#endif /* !_WIN32 */

/* ---- Faults ---------------------------------------------------------------------------------- */

/* A registration that the kernel refuses: the error comes back, and the next try works. */
TEST(poll_start_without_memory) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    const char *call = os_calls()->watch;
    if (call == NULL)
        SKIP("this backend registers nothing with the kernel");
    net_open(&net);
    local_pair(fds);
    watch_init(&watch, &net, fds[0]);
    test_fault_set(call, 1, 1, ENOMEM);
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_READABLE, watch_on_event_never), EVL_ENOMEM);
    CHECK_EQ(test_fault_hits(call), 1);
    CHECK_EQ(evl_is_active((evl_handle_t *)&watch.poll), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    watch_start(&watch, EVL_READABLE);
    test_fault_set(call, 1, 1, ENOMEM);
    CHECK_EQ(evl_poll_start(&watch.poll, EVL_WRITABLE, watch_on_event_never), EVL_ENOMEM);
    test_fault_clear();
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(watch.events, EVL_READABLE);
    close_pair(fds);
    net_close(&net);
}

#if !defined(_WIN32)

/* FreeBSD's kqueue refuses to watch a pipe for room that nobody reads: whoever waits is to try. */
TEST(poll_start_refused_for_a_broken_pipe) {
    net_t net;
    watch_t watch;
    evl_file fds[2];
    if (strcmp(os_calls()->backend, "kqueue") != 0)
        SKIP("only kqueue refuses that");
    net_open(&net);
    CHECK_EQ(evl_pipe(fds, 0, 0), 0);
    watch_init(&watch, &net, fds[1]);
    test_fault_set(os_calls()->watch, 1, 1, EPIPE);
    watch_start(&watch, EVL_WRITABLE);
    CHECK_EQ(test_fault_hits(os_calls()->watch), 1);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_EQ(watch.status, 0);
    CHECK_EQ(watch.events, EVL_WRITABLE);
    CHECK_EQ(evl_poll_stop(&watch.poll), 0);
    os_close(fds[0]);
    os_close(fds[1]);
    net_close(&net);
}

#endif /* !_WIN32 */

/* A wait that is interrupted loses nothing. */
TEST(poll_interrupted_waits) {
    net_t net;
    watch_t watch;
    evl_os_sock_t fds[2];
    net_open(&net);
    local_pair(fds);
    watch_open(&watch, &net, fds[0], EVL_READABLE);
    test_fault_set(os_calls()->wait, 1, 3, EINTR);
    net_raw_write(fds[1], "x", 1);
    NET_UNTIL(&net.loop, watch.calls == 1);
    CHECK_GE(test_fault_hits(os_calls()->wait), 1);
    test_fault_clear();
    close_pair(fds);
    net_close(&net);
}
