/* test_stress.c - storms of random operations, one loop against another, and sessions in which any
 * allocation or system call fails. Each storm is decided by its seed. */
#include "net.h"

/* ---- Poll handles in a storm ----------------------------------------------------------------- */

typedef struct {
    evl_poll_t poll;
    evl_os_sock_t fd; /* ours; -1: closed */
    evl_os_sock_t peer;
    int events;  /* watched for; 0: stopped */
    int open;    /* the handle is the loop's */
    int closing; /* … and on its way out */
    long calls;
} buoy_t;

static uint32_t buoy_seed;

static void buoy_on_close(evl_handle_t *handle) {
    buoy_t *buoy = (buoy_t *)handle->data;
    CHECK(buoy->closing);
    buoy->open = buoy->closing = 0;
}

static void buoy_end(buoy_t *buoy) {
    evl_close((evl_handle_t *)&buoy->poll, buoy_on_close);
    buoy->closing = 1;
    buoy->events = 0;
    os_close(buoy->fd);
    buoy->fd = OS_NO_SOCK;
}

/* What is reported must hold at that moment: nobody but the callback reads or writes here. */
static void buoy_on_event(evl_poll_t *poll, int status, int events) {
    buoy_t *buoy = (buoy_t *)poll->data;
    char bytes[32];
    CHECK_EQ(status, 0);
    CHECK(buoy->open && !buoy->closing);
    CHECK_NE(buoy->events, 0);
    CHECK_NE(events, 0);
    CHECK_EQ(events & ~buoy->events, 0);
    int now = os_poll(buoy->fd, POLLIN | POLLOUT, 0);
    CHECK_NE(now, 0);
    if (events & EVL_READABLE)
        CHECK((now & (POLLIN | POLLHUP)) != 0);
    if (events & EVL_WRITABLE)
        CHECK((now & (POLLOUT | POLLHUP)) != 0);
    buoy->calls++;
    if ((events & EVL_READABLE) && net_random(&buoy_seed, 3) != 0)
        CHECK_GE(os_recv(buoy->fd, bytes, sizeof(bytes)), 0);
    switch (net_random(&buoy_seed, 12)) {
    case 0:
        CHECK_EQ(evl_poll_stop(poll), 0);
        buoy->events = 0;
        break;
    case 1:
        buoy_end(buoy);
        break;
    case 2:
        buoy->events = 1 + (int)net_random(&buoy_seed, 7);
        CHECK_EQ(evl_poll_start(poll, buoy->events, buoy_on_event), 0);
        break;
    default:
        break;
    }
}

static void buoy_step(net_t *net, buoy_t *buoy) {
    if (!buoy->open) { /* a new one, which gets numbers that others have had */
        evl_os_sock_t fds[2];
        if (buoy->peer != OS_NO_SOCK)
            os_close(buoy->peer);
        os_socketpair(fds);
        buoy->fd = fds[0];
        buoy->peer = fds[1];
        CHECK_EQ(os_poll_init(&net->loop, &buoy->poll, buoy->fd), 0);
        buoy->poll.data = buoy;
        buoy->open = 1;
    }
    if (buoy->closing)
        return;
    switch (net_random(&buoy_seed, 8)) {
    case 0:
        buoy_end(buoy);
        break;
    case 1:
        CHECK_EQ(evl_poll_stop(&buoy->poll), 0);
        buoy->events = 0;
        break;
    case 2:
    case 3:
    case 4:
        buoy->events = 1 + (int)net_random(&buoy_seed, 7);
        CHECK_EQ(evl_poll_start(&buoy->poll, buoy->events, buoy_on_event), 0);
        break;
    case 5:
        os_shutdown(buoy->peer);
        break;
    default:
        os_send_now(buoy->peer, "some bytes", 10);
        break;
    }
}

TEST(stress_poll_storm) {
    enum { COUNT = 40 };
    for (uint32_t seed = 1; seed <= 3; seed++) {
        net_t net;
        buoy_t *buoys = (buoy_t *)calloc(COUNT, sizeof(buoy_t));
        long calls = 0;
        net_open(&net);
        buoy_seed = seed * 7919;
        for (int i = 0; i < COUNT; i++)
            buoys[i].fd = buoys[i].peer = OS_NO_SOCK;
        for (int step = 0; step < (test_slow() ? 1500 : OS_STORM(6000)); step++) {
            buoy_step(&net, &buoys[net_random(&buoy_seed, COUNT)]);
            if (net_random(&buoy_seed, 4) == 0)
                evl_run(&net.loop, EVL_RUN_NOWAIT);
        }
        for (int i = 0; i < COUNT; i++) {
            calls += buoys[i].calls;
            if (buoys[i].open && !buoys[i].closing)
                buoy_end(&buoys[i]);
            if (buoys[i].peer != OS_NO_SOCK)
                os_close(buoys[i].peer);
        }
        CHECK_GT(calls, 100);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        for (int i = 0; i < COUNT; i++)
            CHECK(!buoys[i].open);
        net_close(&net);
        free(buoys);
    }
}

#ifndef EVLOOP_NO_NET

/* ---- Connections in a storm ------------------------------------------------------------------ */

/* One end of a connection. What it sends is the test stream from 0 on; what it gets must be, too. */
typedef struct end_s {
    evl_tcp_t tcp;
    struct end_s *other;
    size_t sent;  /* accepted by evl_write and evl_try_write */
    size_t got;   /* read */
    long writes;  /* started */
    long written; /* called back */
    evl_shutdown_t shut;
    int shut_started;
    int shut_done;
    int ended;  /* read to the end */
    int broken; /* failed, was closed or reset: the other may miss bytes */
    int closed; /* by us; 2: called back */
    int paused;
} end_t;

typedef struct {
    evl_write_t req;
    end_t *end;
    long index;
    size_t size;
    char bytes[1];
} parcel_t;

static uint32_t storm_seed;
static int storm_faults; /* allocations and calls may fail */
static int storm_faulty; /* … or could earlier, of which some callback may still have to tell */

static void storm_on_write(evl_write_t *req, int status) {
    parcel_t *parcel = (parcel_t *)req->data;
    end_t *end = parcel->end;
    CHECK_EQ(parcel->index, end->written);
    CHECK_NE(end->closed, 2);
    end->written++;
    if (status != 0) {
        CHECK(end->closed || status == EVL_EPIPE || status == EVL_ECONNRESET ||
              status == EVL_ETIMEDOUT || storm_faults || (storm_faulty && status == EVL_ENOMEM));
        end->broken = 1;
    }
    memset(parcel, 0xEE, sizeof(*parcel) + parcel->size);
    free(parcel);
}

static void storm_on_close(evl_handle_t *handle) {
    end_t *end = (end_t *)handle->data;
    CHECK_EQ(end->closed, 1);
    CHECK_EQ(end->written, end->writes);
    CHECK_EQ(end->shut_done, end->shut_started);
    end->closed = 2;
}

static void storm_close(end_t *end, int reset) {
    if (end->closed)
        return;
    if (!reset || evl_tcp_close_reset(&end->tcp, storm_on_close) != 0)
        evl_close(net_handle(&end->tcp), storm_on_close);
    end->closed = end->broken = 1;
}

static void storm_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    end_t *end = (end_t *)stream->data;
    CHECK(!end->closed);
    if (nread > 0) {
        net_check(buf->base, end->got, (size_t)nread);
        end->got += (size_t)nread;
        CHECK_LE(end->got, end->other->sent);
    } else if (nread == EVL_EOF) {
        end->ended = 1;
        if (!end->other->broken) {
            CHECK(end->other->shut_started);
            CHECK_EQ(end->got, end->other->sent);
        }
    } else if (nread < 0 && nread != EVL_ETIMEDOUT && nread != EVL_ENOBUFS) {
        CHECK(end->other->broken || end->broken || storm_faults);
        end->broken = end->ended = 1;
    }
    switch (net_random(&storm_seed, 30)) {
    case 0:
        CHECK_EQ(evl_read_stop(stream), 0);
        break;
    case 1:
        if (net_random(&storm_seed, 10) == 0)
            storm_close(end, 0);
        break;
    default:
        break;
    }
}

static void storm_on_shutdown(evl_shutdown_t *req, int status) {
    end_t *end = (end_t *)req->data;
    CHECK_EQ(end->written, end->writes);
    CHECK_EQ(end->shut_done, 0);
    end->shut_done = 1;
    if (status != 0)
        end->broken = 1;
}

static void storm_on_flow(evl_stream_t *stream, evl_flow_t flow) {
    end_t *end = (end_t *)stream->data;
    CHECK(!end->closed);
    CHECK_EQ(end->paused, flow == EVL_FLOW_RESUME);
    end->paused = flow == EVL_FLOW_PAUSE;
}

static void storm_alloc_one(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char bytes[NET_CHUNK];
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(bytes, 1 + net_random(&storm_seed, 4000));
}

static void storm_read(end_t *end) {
    static const evl_alloc_cb allocs[] = {NULL, net_alloc, net_alloc_small, storm_alloc_one};
    int result =
        evl_read_start(net_stream(&end->tcp), allocs[net_random(&storm_seed, 4)], storm_on_read);
    CHECK(result == 0 || result == EVL_EALREADY || (end->broken && result == EVL_ENOTCONN) ||
          (storm_faults && result == EVL_ENOMEM));
}

static void storm_write(end_t *end) {
    evl_buf_t bufs[6];
    unsigned count = 1 + net_random(&storm_seed, 6);
    size_t size = net_random(&storm_seed, 8) == 0 ? net_random(&storm_seed, 60000)
                                                  : net_random(&storm_seed, 500);
    parcel_t *parcel = (parcel_t *)malloc(sizeof(*parcel) + size);
    size_t offset = 0;
    net_fill(parcel->bytes, end->sent, size);
    for (unsigned i = 0; i < count; i++) {
        size_t part =
            i + 1 == count ? size - offset : net_random(&storm_seed, (uint32_t)(size - offset + 1));
        bufs[i] = evl_buf_init(parcel->bytes + offset, (unsigned)part);
        offset += part;
    }
    parcel->end = end;
    parcel->size = size;
    parcel->index = end->writes;
    parcel->req.data = parcel;
    int result = evl_write(&parcel->req, net_stream(&end->tcp), bufs, count, storm_on_write);
    if (result == 0) {
        end->writes++;
        end->sent += size;
        return;
    }
    if (result == EVL_EPIPE) { /* a write has failed, whose callback may still be due */
        CHECK(end->broken || end->other->broken || storm_faults);
        end->broken = 1;
    } else {
        CHECK(result == EVL_ENOBUFS || (storm_faults && result == EVL_ENOMEM));
    }
    free(parcel);
}

static void storm_try_write(end_t *end) {
    evl_buf_t buf = net_buf(end->sent, net_random(&storm_seed, 3000));
    int result = evl_try_write(net_stream(&end->tcp), &buf, 1);
    if (result >= 0)
        end->sent += (size_t)result;
    else
        CHECK(result == EVL_EAGAIN || result == EVL_EPIPE || result == EVL_ECONNRESET ||
              storm_faults);
}

static void storm_shutdown(end_t *end) {
    end->shut.data = end;
    if (evl_shutdown(&end->shut, net_stream(&end->tcp), storm_on_shutdown) == 0)
        end->shut_started = 1;
}

static void storm_bounds(end_t *end) {
    size_t low = net_random(&storm_seed, 2000);
    size_t high = low + net_random(&storm_seed, 20000);
    size_t max = net_random(&storm_seed, 2) ? 0 : high + net_random(&storm_seed, 100000);
    uint64_t read_ms = net_random(&storm_seed, 4) == 0 ? 1 + net_random(&storm_seed, 3) : 0;
    int result;
    if (end->writes == 0) { /* later it would be unclear what PAUSE there has been */
        result = evl_stream_set_watermarks(net_stream(&end->tcp), low, high, max, storm_on_flow);
        CHECK(result == 0 || (storm_faults && result == EVL_ENOMEM));
    }
    result = evl_stream_set_timeouts(net_stream(&end->tcp), 0, read_ms, 0);
    CHECK(result == 0 || (storm_faults && result == EVL_ENOMEM));
}

static void storm_step(end_t *end) {
    uint32_t dice = net_random(&storm_seed, 100);
    if (end->closed)
        return;
    if (dice < 40 && !end->shut_started)
        storm_write(end);
    else if (dice < 50 && !end->shut_started)
        storm_try_write(end);
    else if (dice < 75)
        storm_read(end);
    else if (dice < 85)
        CHECK_EQ(evl_read_stop(net_stream(&end->tcp)), 0);
    else if (dice < 92)
        storm_bounds(end);
    else if (dice < 94)
        storm_shutdown(end);
    else if (dice < 95)
        storm_close(end, net_random(&storm_seed, 2) == 0);
}

static void storm_weather(void) {
    uint32_t dice = net_random(&storm_seed, 20);
    if (!storm_faults)
        return;
    if (dice == 0)
        test_alloc_fail(1 + (long)net_random(&storm_seed, 3), 1);
    else if (dice == 1)
        test_fault_set("recv", 1 + (long)net_random(&storm_seed, 5), 2, EINTR);
    else if (dice == 2)
        test_fault_set("send", 1 + (long)net_random(&storm_seed, 5), 2, EINTR);
    else if (dice == 3)
        test_short_set("send", net_random(&storm_seed, 3000));
    else if (dice == 4)
        test_short_set("recv", net_random(&storm_seed, 3000));
    else if (dice == 5 || dice == 6)
        test_fault_set(os_calls()->wait, 1, 1, EINTR);
    else if (dice == 7)
        test_fault_set("send", 1, 1, ENOBUFS);
}

static void storm_clear(void) {
    test_alloc_fail(0, 0);
    test_fault_clear();
}

static void storm_pair(net_t *net, end_t *a, end_t *b, int tcp) {
    evl_os_sock_t fds[2];
    memset(a, 0, sizeof(*a));
    memset(b, 0, sizeof(*b));
    if (tcp)
        net_raw_pair(fds);
    else
        os_socketpair(fds);
    a->other = b;
    b->other = a;
    CHECK_EQ(evl_tcp_init(&net->loop, &a->tcp), 0);
    CHECK_EQ(evl_tcp_init(&net->loop, &b->tcp), 0);
    CHECK_EQ(evl_tcp_open(&a->tcp, fds[0]), 0);
    CHECK_EQ(evl_tcp_open(&b->tcp, fds[1]), 0);
    a->tcp.data = a;
    b->tcp.data = b;
}

/* What is still whole comes to an orderly end with every byte. */
static void storm_settle(net_t *net, end_t *ends, int count) {
    storm_clear();
    storm_faults = 0;
    *net_waiting() = "the storm to settle\n";
    for (int settled = 0; !settled;) {
        settled = 1;
        for (int i = 0; i < count; i++) {
            end_t *end = &ends[i];
            if (end->closed || end->other->closed || end->broken || end->other->broken)
                continue;
            if (!end->shut_started)
                storm_shutdown(end);
            if (!end->ended)
                storm_read(end);
            settled = settled && end->ended && end->shut_done;
        }
        if (!settled)
            CHECK_GE(net_turn(&net->loop), 0);
    }
    for (int i = 0; i < count; i++)
        if (!ends[i].broken && !ends[i].other->broken)
            CHECK_EQ(ends[i].got, ends[i].other->sent);
}

static void storm(uint32_t seed, int faults) {
    enum { ENDS = 32 };
    net_t net;
    end_t *ends = (end_t *)calloc(ENDS, sizeof(end_t));
    size_t bytes = 0;
    net_open(&net);
    storm_seed = seed;
    storm_faults = storm_faulty = faults;
    for (int i = 0; i < ENDS; i += 2)
        storm_pair(&net, &ends[i], &ends[i + 1], i % 4 == 0);
    for (int step = 0; step < (test_slow() ? 1500 : OS_STORM(5000)); step++) {
        int i = (int)net_random(&storm_seed, ENDS) & ~1;
        storm_weather();
        storm_step(&ends[i]);
        storm_step(&ends[i + 1]);
        if (net_random(&storm_seed, 3) == 0)
            CHECK_GE(net_turn(&net.loop), 0);
        if (ends[i].closed == 2 && ends[i + 1].closed == 2) {
            bytes += ends[i].got + ends[i + 1].got;
            storm_pair(&net, &ends[i], &ends[i + 1], i % 4 == 0);
        } else if (ends[i].closed == 2 && net_random(&storm_seed, 8) == 0) {
            storm_close(&ends[i + 1], 0);
        } else if (ends[i + 1].closed == 2 && net_random(&storm_seed, 8) == 0) {
            storm_close(&ends[i], 0);
        }
    }
    storm_settle(&net, ends, ENDS);
    for (int i = 0; i < ENDS; i++) {
        bytes += ends[i].got;
        storm_close(&ends[i], 0);
    }
    net_finish(&net.loop);
    for (int i = 0; i < ENDS; i++)
        CHECK_EQ(ends[i].closed, 2);
    CHECK_GT(bytes, 100000);
    net_close(&net);
    free(ends);
}

TEST(stress_stream_storm) {
    for (uint32_t seed = 1; seed <= 5; seed++)
        storm(seed * 104729, 0);
}

TEST(stress_stream_storm_with_faults) {
    for (uint32_t seed = 1; seed <= 3; seed++)
        storm(seed * 15485863, 1);
}

/* The same in slices of one callback. */
TEST(stress_stream_storm_in_slices) {
    *net_slices() = 1;
    for (uint32_t seed = 1; seed <= 3; seed++)
        storm(seed * 32452843, seed == 3);
}

/* ---- Clients that come and go ---------------------------------------------------------------- */

typedef struct {
    evl_tcp_t tcp;
    evl_connect_t connect;
    int state; /* 0: free, 1: connecting or connected, 2: closing */
} caller_t;

typedef struct {
    evl_tcp_t server;
    evl_tcp_t guests[64];
    int guest_state[64];
    long accepted;
    long connected;
    int open;
    int limit;
} inn_t;

static void inn_on_guest_close(evl_handle_t *handle) {
    *(int *)handle->data = 0;
}

static void inn_on_connection(evl_stream_t *server, int status) {
    inn_t *inn = (inn_t *)server->data;
    CHECK_EQ(status, 0);
    for (int i = 0; i < 64; i++)
        if (inn->guest_state[i] == 0) {
            inn->guest_state[i] = 1;
            CHECK_EQ(evl_tcp_init(server->loop, &inn->guests[i]), 0);
            inn->guests[i].data = &inn->guest_state[i];
            CHECK_EQ(evl_accept(server, net_stream(&inn->guests[i])), 0);
            inn->accepted++;
            inn->open++;
            CHECK_LE(inn->open, inn->limit);
            return;
        }
    NET_FAIL("more guests than the limit allows");
}

static void caller_on_connect(evl_connect_t *req, int status) {
    CHECK(status == 0 || status == EVL_ECANCELED || status == EVL_ECONNRESET);
    if (status == 0)
        (*(long *)req->data)++;
}

static void caller_on_close(evl_handle_t *handle) {
    ((caller_t *)handle->data)->state = 0;
}

TEST(stress_clients_come_and_go) {
    enum { CALLERS = 60 };
    net_t net;
    inn_t *inn = (inn_t *)calloc(1, sizeof(*inn));
    caller_t *callers = (caller_t *)calloc(CALLERS, sizeof(caller_t));
    uint32_t seed = 4711;
    net_open(&net);
    inn->limit = 40;
    int port = net_listen(&net, &inn->server, 128, inn_on_connection);
    inn->server.data = inn;
    CHECK_EQ(evl_listen_limit(net_stream(&inn->server), 40), 0);
    for (int step = 0; step < (test_slow() ? 600 : 4000); step++) {
        caller_t *caller = &callers[net_random(&seed, CALLERS)];
        int guest = (int)net_random(&seed, 64);
        if (caller->state == 0) {
            caller->state = 1;
            caller->connect.data = &inn->connected;
            net_connect(&net, &caller->tcp, &caller->connect, port, caller_on_connect);
            caller->tcp.data = caller;
        } else if (caller->state == 1 && net_random(&seed, 3) == 0) {
            caller->state = 2;
            if (net_random(&seed, 2) == 0 ||
                evl_tcp_close_reset(&caller->tcp, caller_on_close) != 0)
                evl_close(net_handle(&caller->tcp), caller_on_close);
        }
        if (inn->guest_state[guest] == 1) {
            inn->guest_state[guest] = 2;
            inn->open--;
            evl_close(net_handle(&inn->guests[guest]), inn_on_guest_close);
        }
        if (net_random(&seed, 3) == 0)
            evl_run(&net.loop, EVL_RUN_NOWAIT);
    }
    CHECK_GT(inn->accepted, 50);
    CHECK_GT(inn->connected, 50);
    net_close(&net);
    free(callers);
    free(inn);
}

/* ---- Two loops in two threads ---------------------------------------------------------------- */

typedef struct {
    evl_os_sock_t fd;
    size_t total;
    net_sink_t sink;
} party_t;

static void party_on_write(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

static void *party_thread(void *arg) {
    party_t *party = (party_t *)arg;
    evl_loop_t loop;
    evl_tcp_t tcp;
    evl_write_t req;
    evl_shutdown_t shut;
    int written = 0;
    char *bytes = (char *)malloc(party->total);
    net_fill(bytes, 0, party->total);
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, party->fd), 0);
    tcp.data = &party->sink;
    req.data = &written;
    evl_buf_t buf = evl_buf_init(bytes, (unsigned)party->total);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, party_on_write), 0);
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), NULL), 0);
    while (party->sink.ends == 0 || !written)
        CHECK(evl_run(&loop, EVL_RUN_ONCE) != 0 || (party->sink.ends > 0 && written));
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_loop_close(&loop), 0);
    free(bytes);
    return NULL;
}

TEST(stress_two_loops) {
    int open_before = test_open_fds();
    net_watch();
    net_bytes(0);
    for (int round = 0; round < 10; round++) {
        party_t parties[2];
        os_thread_t threads[2];
        evl_os_sock_t fds[2];
        memset(parties, 0, sizeof(parties));
        net_raw_pair(fds);
        for (int i = 0; i < 2; i++) {
            parties[i].fd = fds[i];
            parties[i].total = 1000000 + (size_t)(round * 12345);
            start_thread(&threads[i], party_thread, &parties[i]);
        }
        for (int i = 0; i < 2; i++) {
            join_thread(threads[i]);
            CHECK_EQ(parties[i].sink.bytes, parties[i].total);
            CHECK_EQ(parties[i].sink.end, EVL_EOF);
        }
    }
    CHECK_EQ(test_open_fds(), open_before);
}

/* ---- A session in which something fails ------------------------------------------------------ */

/* A server and a client on one loop: bounds are set, bytes echoed, both sides shut down. Whatever
 * fails ends it: with an error from a call or in a callback, never with silence. */
typedef struct {
    evl_loop_t loop;
    evl_tcp_t server, client, guest;
    evl_connect_t connect;
    evl_write_t write;
    evl_shutdown_t client_shut, guest_shut;
    evl_pump_t pump;
    evl_tcp_t relay; /* the guest's bytes go through it, and from its peer to nowhere */
    evl_os_sock_t relay_peer;
    size_t echoed;
    int open; /* the loop is */
    int error;
    int done;
} session_t;

#define SESSION_BYTES 1200

static void session_fail(session_t *session, int error) {
    if (error < 0 && session->error == 0)
        session->error = error;
}

static void session_on_shutdown(evl_shutdown_t *req, int status) {
    session_fail((session_t *)req->data, status);
}

static void session_on_write(evl_write_t *req, int status) {
    session_fail((session_t *)req->data, status);
}

static void session_on_client_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    session_t *session = (session_t *)stream->data;
    if (nread == EVL_EOF) {
        session->done = session->echoed == SESSION_BYTES;
        if (!session->done)
            session_fail(session, EVL_EOF);
    } else if (nread < 0) {
        session_fail(session, (int)nread);
    } else {
        net_check(buf->base, session->echoed, (size_t)nread);
        session->echoed += (size_t)nread;
        if (nread > 0 && session->echoed == SESSION_BYTES)
            session_fail(session, evl_shutdown(&session->client_shut, stream, session_on_shutdown));
    }
}

static void session_on_connect(evl_connect_t *req, int status) {
    session_t *session = (session_t *)req->data;
    evl_buf_t bufs[6];
    session_fail(session, status);
    if (status != 0)
        return;
    for (size_t i = 0; i < NET_COUNT(bufs); i++)
        bufs[i] = net_buf(i * SESSION_BYTES / 6, SESSION_BYTES / 6);
    session_fail(session, evl_read_start(req->handle, net_alloc, session_on_client_read));
    session_fail(session,
                 evl_write(&session->write, req->handle, bufs, NET_COUNT(bufs), session_on_write));
}

static void session_on_pump(evl_pump_t *req, int status) {
    session_t *session = (session_t *)req->data;
    session_fail(session, status);
    if (session->error == 0) /* the end of what the client sends */
        session_fail(session, evl_shutdown(&session->guest_shut, net_stream(&session->guest),
                                           session_on_shutdown));
}

static void session_on_connection(evl_stream_t *server, int status) {
    session_t *session = (session_t *)server->data;
    int err = status;
    session_fail(session, err);
    if (err != 0)
        return;
    err = evl_tcp_init(&session->loop, &session->guest);
    if (err == 0)
        err = evl_tcp_nodelay(&session->guest, 1);
    if (err == 0)
        err = evl_tcp_keepalive(&session->guest, 1, 60);
    if (err == 0)
        err = evl_accept(server, net_stream(&session->guest));
    if (err == 0)
        err = evl_pump(&session->pump, net_stream(&session->guest), net_stream(&session->relay),
                       session_on_pump);
    session_fail(session, err);
}

static int session_start(session_t *session) {
    struct sockaddr_in addr = net_addr(0);
    int length = sizeof(addr);
    int err = evl_loop_init(&session->loop);
    if (err != 0)
        return err;
    session->open = 1;
    err = evl_tcp_init_ex(&session->loop, &session->server, AF_INET);
    session->server.data = session;
    if (err == 0)
        err = evl_tcp_bind(&session->server, net_sa(&addr), 0);
    if (err == 0)
        err = evl_listen(net_stream(&session->server), 4, session_on_connection);
    if (err == 0)
        err = evl_listen_limit(net_stream(&session->server), 2);
    if (err == 0)
        err = evl_tcp_getsockname(&session->server, (struct sockaddr *)&addr, &length);
    if (err == 0)
        err = evl_tcp_init(&session->loop, &session->client);
    if (err != 0)
        return err;
    session->client.data = session;
    evl_stream_t *client = net_stream(&session->client);
    err = evl_stream_set_watermarks(client, 10, 1000, 100000, NULL);
    if (err == 0)
        err = evl_stream_set_timeouts(client, 5000, 5000, 5000);
    if (err == 0)
        err =
            evl_tcp_connect(&session->connect, &session->client, net_sa(&addr), session_on_connect);
    return err;
}

/* The relay's raw peer sends back what it gets, and that is written to the guest. */
static void session_relay(session_t *session) {
    char bytes[2 * SESSION_BYTES];
    long count = os_recv_now(session->relay_peer, bytes, sizeof(bytes));
    if (count <= 0)
        return;
    for (long done = 0; done < count && session->error == 0;) {
        evl_buf_t buf = evl_buf_init(bytes + done, (unsigned)(count - done));
        int result = evl_try_write(net_stream(&session->guest), &buf, 1);
        if (result >= 0)
            done += result;
        else if (result != EVL_EAGAIN)
            session_fail(session, result);
    }
}

static void session_run(session_t *session) {
    evl_os_sock_t fds[2];
    memset(session, 0, sizeof(*session));
    session->relay_peer = OS_NO_SOCK;
    session->connect.data = session->write.data = session;
    session->client_shut.data = session->guest_shut.data = session->pump.data = session;
    os_socketpair(fds);
    session->relay_peer = fds[1];
    int err = session_start(session);
    if (session->open && err == 0) {
        err = evl_tcp_init(&session->loop, &session->relay);
        if (err == 0)
            err = evl_tcp_open(&session->relay, fds[0]);
    }
    if (err != 0 || !session->open)
        os_close(fds[0]);
    session_fail(session, err);
    *net_waiting() = "a session with a fault to end\n";
    while (!session->done && session->error == 0) {
        int alive = net_turn(&session->loop);
        CHECK_GE(alive, 0);
        session_relay(session);
        CHECK(alive || session->done || session->error != 0); /* not with silence */
    }
    if (session->open) {
        evl_walk(&session->loop, net_close_one, NULL);
        net_finish(&session->loop);
        CHECK_EQ(evl_loop_close(&session->loop), 0);
    }
    os_close(session->relay_peer);
}

static void session_check(const session_t *session, int fds, long blocks) {
    CHECK(session->done || session->error < 0);
    CHECK_EQ(test_open_fds(), fds);
    CHECK_EQ(test_alloc_live(), blocks);
}

/* A session without faults is through: what came before has left nothing behind. */
static void session_healthy(void) {
    session_t *session = (session_t *)malloc(sizeof(*session));
    session_run(session);
    CHECK_EQ(session->error, 0);
    CHECK_EQ(session->done, 1);
    free(session);
}

TEST(stress_session_without_faults) {
    int fds = test_open_fds();
    net_watch();
    session_healthy();
    CHECK_EQ(test_open_fds(), fds);
}

/* The Nth allocation fails, alone or with all that follow, also during the teardown. */
TEST(stress_session_without_memory) {
    session_t *session = (session_t *)malloc(sizeof(*session));
    int fds = test_open_fds();
    long blocks = test_alloc_live();
    net_watch();
    size_t before = test_alloc_calls();
    session_healthy();
    long total = (long)(test_alloc_calls() - before);
    CHECK_GT(total, 3);
    for (long n = 1; n <= total; n++)
        for (int mode = 0; mode < 2; mode++) {
            test_alloc_fail(n, mode == 0 ? 1 : -1);
            session_run(session);
            test_alloc_fail(0, 0);
            session_check(session, fds, blocks);
            if (session->error != 0)
                CHECK_EQ(session->error, EVL_ENOMEM);
        }
    session_healthy();
    free(session);
}

/* The Nth call of a kind fails. */
typedef struct {
    const char *name;
    int err;
    int harmless; /* the session must not notice */
} failure_t;

static const failure_t failures[] = {
    {"socket", EMFILE, 0},       {"socket", ENOBUFS, 0},       {"bind", EACCES, 0},
    {"bind", EADDRINUSE, 0},     {"listen", EADDRINUSE, 0},    {"accept", EINTR, 1},
    {"accept", ECONNABORTED, 1}, {"accept", EMFILE, 1},        {"accept", ENFILE, 1},
    {"accept", ENOMEM, 1},       {"connect", ECONNREFUSED, 0}, {"connect", EADDRNOTAVAIL, 0},
    {"recv", EINTR, 1},          {"recv", ECONNRESET, 0},      {"recv", ETIMEDOUT, 0},
    {"send", EINTR, 1},          {"send", ENOBUFS, 0},         {"send", EPIPE, 0},
    {"send", ECONNRESET, 0},     {"setsockopt", EINVAL, 0},    {"getsockopt", ENOBUFS, 0},
    {"shutdown", ENOTCONN, 0},   {"fionbio", EBADF, 0},        {"fcntl", EBADF, 0},
    {"epoll_ctl", ENOMEM, 0},    {"epoll_ctl", ENOSPC, 0},     {"epoll_create", EMFILE, 0},
    {"eventfd", EMFILE, 0},      {"pipe", EMFILE, 0},          {"epoll_wait", EINTR, 1},
    {"poll", EINTR, 1},          {"kqueue", EMFILE, 0},        {"kevent_change", ENOMEM, 0},
    {"kevent", EINTR, 1},        {"afd_poll", ENOMEM, 0},
};

TEST(stress_session_with_failing_calls) {
    session_t *session = (session_t *)malloc(sizeof(*session));
    int fds = test_open_fds();
    long blocks = test_alloc_live();
    long kinds = 0;
    net_watch();
    for (size_t i = 0; i < NET_COUNT(failures); i++) {
        const failure_t *failure = &failures[i];
        for (long n = 1;; n++) {
            test_fault_set(failure->name, n, 1, failure->err);
            session_run(session);
            long hits = test_fault_hits(failure->name);
            test_fault_clear();
            session_check(session, fds, blocks);
            if (failure->harmless || hits == 0)
                CHECK_EQ(session->error, 0);
            if (hits == 0 || n > 40)
                break;
            kinds += n == 1;
        }
    }
    CHECK_GT(kinds, 15);
    session_healthy();
    free(session);
}

TEST(stress_session_in_slices) {
    net_watch();
    *net_slices() = 1;
    session_healthy();
}

/* Every call is interrupted, many times in a row. */
TEST(stress_session_interrupted) {
    const char *const names[] = {"accept", "recv", "send", os_calls()->wait};
    session_t *session = (session_t *)malloc(sizeof(*session));
    net_watch();
    for (long n = 1; n <= 10; n++) {
        for (size_t i = 0; i < NET_COUNT(names); i++)
            test_fault_set(names[i], n, 5, EINTR);
        test_short_set("send", (size_t)n * 13);
        test_short_set("recv", (size_t)n * 7);
        session_run(session);
        test_fault_clear();
        CHECK_EQ(session->error, 0);
        CHECK_EQ(session->done, 1);
    }
    free(session);
}

#endif /* !EVLOOP_NO_NET */
