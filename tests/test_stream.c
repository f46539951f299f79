/* test_stream.c - reading, writing, shutting down and closing connected streams. */
#include "net.h"

#ifndef EVLOOP_NO_NET

/* ---- Echo ------------------------------------------------------------------------------------ */

/* What the echoing side has read and writes back. */
typedef struct {
    evl_write_t req;
    size_t size;
    char bytes[1];
} piece_t;

static void echo_on_write(evl_write_t *req, int status) {
    piece_t *piece = (piece_t *)req->data;
    CHECK_EQ(status, 0);
    memset(piece, 0xEE, sizeof(*piece) + piece->size); /* who reads it now reads this */
    free(piece);
}

static void echo_on_shutdown(evl_shutdown_t *req, int status) {
    CHECK_EQ(status, 0);
    free(req);
}

static void echo_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    if (nread == EVL_EOF) {
        evl_shutdown_t *req = (evl_shutdown_t *)malloc(sizeof(*req));
        CHECK_EQ(evl_shutdown(req, stream, echo_on_shutdown), 0);
        return;
    }
    CHECK_GE(nread, 0);
    if (nread == 0)
        return;
    piece_t *piece = (piece_t *)malloc(sizeof(*piece) + (size_t)nread);
    piece->size = (size_t)nread;
    piece->req.data = piece;
    memcpy(piece->bytes, buf->base, (size_t)nread);
    evl_buf_t back = evl_buf_init(piece->bytes, (unsigned)nread);
    CHECK_EQ(evl_write(&piece->req, stream, &back, 1, echo_on_write), 0);
}

static void on_write_flag(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

static void on_write_count(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    (*(int *)req->data)++;
}

static void on_write_never(evl_write_t *req, int status) {
    (void)req;
    (void)status;
    NET_FAIL("this write was refused: its callback must not come");
}

static void on_shutdown_flag(evl_shutdown_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

static void on_shutdown_never(evl_shutdown_t *req, int status) {
    (void)req;
    (void)status;
    NET_FAIL("this shutdown was refused: its callback must not come");
}

static void on_read_never(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)stream;
    (void)buf;
    if (nread != 0)
        NET_FAIL("nothing was to be read here");
}

/* Sends `size` bytes to an echo and back, then ends it from both sides. */
static void echo(size_t size, evl_alloc_cb near_alloc, evl_alloc_cb far_alloc) {
    net_t net;
    evl_tcp_t near_end, far_end;
    net_sink_t sink;
    evl_write_t req;
    evl_shutdown_t shut;
    int written = 0, shut_done = 0;
    char *bytes = (char *)malloc(size);
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    net_fill(bytes, 0, size);
    net_pair(&net, &near_end, &far_end);
    near_end.data = &sink;
    req.data = &written;
    shut.data = &shut_done;
    CHECK_EQ(evl_read_start(net_stream(&near_end), near_alloc, net_on_read), 0);
    CHECK_EQ(evl_read_start(net_stream(&far_end), far_alloc, echo_on_read), 0);
    evl_buf_t buf = evl_buf_init(bytes, (unsigned)size);
    CHECK_EQ(evl_write(&req, net_stream(&near_end), &buf, 1, on_write_flag), 0);
    CHECK_EQ(written, 0);
    CHECK_EQ(evl_shutdown(&shut, net_stream(&near_end), on_shutdown_flag), 0);
    NET_UNTIL(&net.loop, sink.ends > 0);
    CHECK_EQ(sink.end, EVL_EOF);
    CHECK_EQ(sink.bytes, size);
    CHECK_EQ(written + shut_done, 2);
    free(bytes);
    net_close(&net);
    CHECK_EQ(sink.ends, 1);
}

static const size_t echo_sizes[] = {1, 2, 100, 4095, 65535, 65536, 65537, 1000000};

TEST(stream_echo_alloc) {
    for (size_t i = 0; i < NET_COUNT(echo_sizes); i++)
        echo(echo_sizes[i], net_alloc, net_alloc);
}

TEST(stream_echo_lent) {
    for (size_t i = 0; i < NET_COUNT(echo_sizes); i++)
        echo(echo_sizes[i], NULL, NULL);
}

TEST(stream_echo_small_buffers) {
    echo(20000, net_alloc_small, net_alloc_small);
    echo(20000, net_alloc_small, NULL);
}

/* The loop in slices of one callback: no state is lost on the way in and out. */
TEST(stream_echo_in_slices) {
    *net_slices() = 1;
    for (size_t i = 0; i < NET_COUNT(echo_sizes); i++)
        echo(echo_sizes[i], i % 2 ? NULL : net_alloc, i % 2 ? net_alloc : NULL);
    echo(3000, net_alloc_small, net_alloc_small);
}

TEST(stream_echo_32mb_alloc) {
    echo((size_t)(test_slow() ? 2 : 32) << 20, net_alloc, net_alloc);
}

TEST(stream_echo_32mb_lent) {
    echo((size_t)(test_slow() ? 2 : 32) << 20, NULL, NULL);
}

/* Both ends send at once. */
TEST(stream_full_duplex) {
    enum { LENGTH = 3000000 };
    net_t net;
    evl_tcp_t ends[2];
    net_sink_t sinks[2];
    evl_write_t reqs[2];
    int written = 0;
    char *bytes = (char *)malloc(LENGTH);
    net_open(&net);
    memset(sinks, 0, sizeof(sinks));
    net_fill(bytes, 0, LENGTH);
    net_pair(&net, &ends[0], &ends[1]);
    evl_buf_t buf = evl_buf_init(bytes, LENGTH);
    for (int i = 0; i < 2; i++) {
        ends[i].data = &sinks[i];
        reqs[i].data = &written;
        CHECK_EQ(evl_read_start(net_stream(&ends[i]), NULL, net_on_read), 0);
        CHECK_EQ(evl_write(&reqs[i], net_stream(&ends[i]), &buf, 1, on_write_count), 0);
    }
    NET_UNTIL(&net.loop, sinks[0].bytes == LENGTH && sinks[1].bytes == LENGTH && written == 2);
    free(bytes);
    net_close(&net);
}

/* ---- Writing: buffers ------------------------------------------------------------------------ */

/* One write of `count` buffers, of 0 to 4 bytes each, or all empty but the last. */
static void write_buffers(unsigned count, int hollow) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    int written = 0;
    size_t offset = 0, got = 0;
    evl_buf_t *bufs = (evl_buf_t *)malloc(count * sizeof(*bufs));
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    for (unsigned i = 0; i < count; i++) {
        size_t size = hollow ? (i + 1 == count) : (count == 1 ? 3 : i % 5);
        bufs[i] = net_buf(offset, size);
        offset += size;
    }
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), bufs, count, on_write_flag), 0);
    memset(bufs, 0xA5, count * sizeof(*bufs)); /* only the bytes must stay */
    CHECK_EQ(written, 0);
    net_pull(&net, peer, &got, offset);
    NET_UNTIL(&net.loop, written);
    CHECK_EQ(tcp.write_queue_size, 0);
    free(bufs);
    os_close(peer);
    net_close(&net);
}

TEST(stream_write_many_buffers) {
    static const unsigned counts[] = {1, 2, 3, 4, 5, 6, 1023, 1024, 1025, 2048, 2049, 5000};
    for (size_t i = 0; i < NET_COUNT(counts); i++)
        write_buffers(counts[i], 0);
}

/* More empty buffers than one system call takes, then a byte: nothing that could be waited for
 * happens between the calls. */
TEST(stream_write_hollow_buffers) {
    write_buffers(5, 1);
    write_buffers(1025, 1);
    write_buffers(5000, 1);
}

/* The same when the buffers queue: partial writes end within buffers, at their ends, at empty ones. */
TEST(stream_write_many_buffers_slowly) {
    static const unsigned counts[] = {4, 5, 1024, 1025, 3000};
    for (size_t i = 0; i < NET_COUNT(counts); i++) {
        net_t net;
        evl_tcp_t tcp;
        evl_write_t req;
        int written = 0;
        size_t got = 0;
        unsigned count = counts[i];
        evl_buf_t *bufs = (evl_buf_t *)malloc(count * sizeof(*bufs));
        net_open(&net);
        evl_os_sock_t peer = net_half_tight(&net, &tcp);
        size_t offset = net_stuff(&tcp);
        size_t queued = 0;
        for (unsigned b = 0; b < count; b++) {
            size_t size = b % 3 == 0 ? 0 : (b * 37) % 3000;
            bufs[b] = net_buf(offset, size);
            offset += size;
            queued += size;
        }
        req.data = &written;
        CHECK_EQ(evl_write(&req, net_stream(&tcp), bufs, count, on_write_flag), 0);
        memset(bufs, 0xA5, count * sizeof(*bufs));
        CHECK_EQ(tcp.write_queue_size, queued);
        net_pull(&net, peer, &got, offset);
        NET_UNTIL(&net.loop, written);
        CHECK_EQ(tcp.write_queue_size, 0);
        free(bufs);
        os_close(peer);
        net_close(&net);
    }
}

TEST(stream_write_nothing) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[3];
    int written = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    evl_buf_t empty = evl_buf_init(NULL, 0);
    evl_buf_t bufs[2000];
    for (size_t i = 0; i < NET_COUNT(bufs); i++)
        bufs[i] = empty;
    for (size_t i = 0; i < NET_COUNT(reqs); i++)
        reqs[i].data = &written;
    CHECK_EQ(evl_write(&reqs[0], net_stream(&tcp), &empty, 1, on_write_count), 0);
    CHECK_EQ(evl_write(&reqs[1], net_stream(&tcp), bufs, NET_COUNT(bufs), on_write_count), 0);
    CHECK_EQ(written, 0);
    CHECK_EQ(tcp.write_queue_size, 0);
    evl_buf_t buf = net_buf(0, 5);
    CHECK_EQ(evl_write(&reqs[2], net_stream(&tcp), &buf, 1, on_write_count), 0);
    NET_UNTIL(&net.loop, written == 3);
    CHECK_EQ(net_raw_drain(peer, &got), 0);
    CHECK_EQ(got, 5);
    os_close(peer);
    net_close(&net);
}

/* What the kernel can take is written before evl_write returns. */
TEST(stream_write_at_once) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    int written = 0;
    char bytes[3000];
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    evl_buf_t buf = net_buf(0, sizeof(bytes));
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_EQ(req.type, EVL_WRITE);
    CHECK_PTR(req.handle, &tcp);
    CHECK_PTR(req.send_handle, NULL);
    net_raw_read(peer, bytes, sizeof(bytes));
    net_check(bytes, 0, sizeof(bytes));
    CHECK_EQ(written, 0);
    CHECK_EQ(tcp.write_queue_size, 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 1); /* for the callback */
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(written, 1);
    os_close(peer);
    net_close(&net);
}

typedef struct {
    evl_write_t req;
    char *bytes;
    size_t size;
} job_t;

static void job_on_write(evl_write_t *req, int status) {
    job_t *job = (job_t *)req->data;
    CHECK_EQ(status, 0);
    memset(job->bytes, 0xEE, job->size);
    free(job->bytes);
    job->bytes = NULL;
}

/* The bytes are the caller's again in the callback, and not earlier. */
TEST(stream_write_leaves_the_bytes_after_the_callback) {
    enum { JOBS = 60 };
    net_t net;
    evl_tcp_t tcp;
    job_t jobs[JOBS];
    uint32_t seed = 7;
    size_t offset = 0, got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].size = 1 + net_random(&seed, 9000);
        jobs[i].bytes = (char *)malloc(jobs[i].size);
        jobs[i].req.data = &jobs[i];
        net_fill(jobs[i].bytes, offset, jobs[i].size);
        offset += jobs[i].size;
        evl_buf_t buf = evl_buf_init(jobs[i].bytes, (unsigned)jobs[i].size);
        CHECK_EQ(evl_write(&jobs[i].req, net_stream(&tcp), &buf, 1, job_on_write), 0);
        CHECK(jobs[i].bytes != NULL);
    }
    net_pull(&net, peer, &got, offset);
    NET_UNTIL(&net.loop, jobs[JOBS - 1].bytes == NULL);
    for (int i = 0; i < JOBS; i++)
        CHECK(jobs[i].bytes == NULL);
    os_close(peer);
    net_close(&net);
}

/* ---- Writing: callbacks ---------------------------------------------------------------------- */

typedef struct {
    evl_write_t req;
    int index;
    int *next;
} order_t;

static void order_on_write(evl_write_t *req, int status) {
    order_t *order = (order_t *)req->data;
    CHECK_EQ(status, 0);
    CHECK_EQ(order->index, *order->next);
    (*order->next)++;
}

TEST(stream_write_callbacks_in_order) {
    enum { WRITES = 500 };
    net_t net;
    evl_tcp_t tcp;
    order_t *writes = (order_t *)calloc(WRITES, sizeof(order_t));
    int next = 0;
    uint32_t seed = 3;
    size_t offset = 0, got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    for (int i = 0; i < WRITES; i++) {
        size_t size = net_random(&seed, 4) == 0 ? 0 : net_random(&seed, 1500);
        evl_buf_t buf = net_buf(offset, size);
        offset += size;
        writes[i].index = i;
        writes[i].next = &next;
        writes[i].req.data = &writes[i];
        CHECK_EQ(evl_write(&writes[i].req, net_stream(&tcp), &buf, 1, order_on_write), 0);
        CHECK_EQ(next, 0);
    }
    net_pull(&net, peer, &got, offset);
    NET_UNTIL(&net.loop, next == WRITES);
    os_close(peer);
    net_close(&net);
    CHECK_EQ(next, WRITES);
    free(writes);
}

TEST(stream_write_without_a_callback) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[3];
    evl_shutdown_t shut;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    size_t offset = net_stuff(&tcp);
    for (size_t i = 0; i < NET_COUNT(reqs); i++) {
        evl_buf_t buf = net_buf(offset, 3000);
        offset += 3000;
        CHECK_EQ(evl_write(&reqs[i], net_stream(&tcp), &buf, 1, NULL), 0);
    }
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), NULL), 0);
    net_pull(&net, peer, &got, offset);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    net_raw_await(peer);
    CHECK_EQ(net_raw_drain(peer, &got), -1);
    os_close(peer);
    net_close(&net);
}

/* A chain in which each write callback writes again, or many writes at once, in a thread that has
 * little stack. */
typedef struct {
    evl_tcp_t near_end, far_end;
    net_sink_t sink;
    evl_write_t *reqs;
    long wanted;
    long burst; /* how many are started at once; 1: a chain */
    long started;
    long written;
    int in_write;
} chain_t;

static void chain_step(chain_t *chain);

static void chain_on_write(evl_write_t *req, int status) {
    chain_t *chain = (chain_t *)req->data;
    CHECK_EQ(status, 0);
    CHECK_EQ(chain->in_write, 0);
    CHECK_PTR(req, &chain->reqs[chain->written % chain->burst]);
    chain->written++;
    if (chain->started < chain->wanted)
        chain_step(chain);
}

static void chain_step(chain_t *chain) {
    evl_write_t *req = &chain->reqs[chain->started % chain->burst];
    evl_buf_t buf = net_buf((size_t)chain->started, 1);
    req->data = chain;
    chain->started++;
    chain->in_write++;
    CHECK_EQ(evl_write(req, net_stream(&chain->near_end), &buf, 1, chain_on_write), 0);
    chain->in_write--;
}

static void *chain_thread(void *arg) {
    chain_t *chain = (chain_t *)arg;
    net_t net;
    net_open(&net);
    net_pair(&net, &chain->near_end, &chain->far_end);
    chain->far_end.data = &chain->sink;
    CHECK_EQ(evl_read_start(net_stream(&chain->far_end), NULL, net_on_read), 0);
    while (chain->started < chain->burst)
        chain_step(chain);
    NET_UNTIL(&net.loop, chain->sink.bytes == (size_t)chain->wanted);
    NET_UNTIL(&net.loop, chain->written == chain->wanted);
    net_close(&net);
    return NULL;
}

static void chain_run(long wanted, long burst) {
    chain_t chain;
    os_thread_t thread;
    memset(&chain, 0, sizeof(chain));
    chain.wanted = wanted;
    chain.burst = burst;
    chain.reqs = (evl_write_t *)calloc((size_t)burst, sizeof(evl_write_t));
    os_thread_start(&thread, test_slow() ? 512 * 1024 : 64 * 1024, chain_thread, &chain);
    join_thread(thread);
    free(chain.reqs);
    CHECK_EQ(chain.written, wanted);
}

TEST(stream_write_chain_of_10000) {
    chain_run(10000, 1);
}

TEST(stream_write_chain_of_100000) {
    chain_run(test_slow() ? 20000 : OS_STORM(100000), 4);
}

TEST(stream_write_burst_of_10000) {
    chain_run(10000, 10000);
}

TEST(stream_write_burst_of_100000) {
    chain_run(test_slow() ? 20000 : 100000, test_slow() ? 20000 : 100000);
}

/* All the callbacks of a failed or closed connection come without growing the stack, too. */
static void cancel_on_write(evl_write_t *req, int status) {
    CHECK_EQ(status, EVL_ECANCELED);
    (*(long *)req->data)++;
}

static void *cancel_thread(void *arg) {
    net_t net;
    evl_tcp_t tcp;
    long wanted = test_slow() ? 20000 : 100000;
    long cancelled = 0;
    evl_write_t *reqs = (evl_write_t *)calloc((size_t)wanted, sizeof(*reqs));
    (void)arg;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    net_stuff(&tcp);
    evl_buf_t buf = net_buf(0, 10);
    for (long i = 0; i < wanted; i++) {
        reqs[i].data = &cancelled;
        CHECK_EQ(evl_write(&reqs[i], net_stream(&tcp), &buf, 1, cancel_on_write), 0);
    }
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(cancelled, 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(cancelled, wanted);
    os_close(peer);
    net_close(&net);
    free(reqs);
    return NULL;
}

TEST(stream_cancel_of_100000) {
    os_thread_t thread;
    os_thread_start(&thread, test_slow() ? 512 * 1024 : 64 * 1024, cancel_thread, NULL);
    join_thread(thread);
}

/* ---- Writing: the queue ---------------------------------------------------------------------- */

TEST(stream_try_write) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    int written = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    evl_buf_t three[3];
    three[0] = net_buf(0, 10);
    three[1] = net_buf(10, 0);
    three[2] = net_buf(10, 20);
    CHECK_EQ(evl_try_write(net_stream(&tcp), three, 3), 30);
    CHECK_EQ(evl_try_write2(net_stream(&tcp), &three[1], 1, NULL), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0); /* nothing is outstanding */
    size_t offset = 30;
    int count;
    do { /* the last one may be cut */
        evl_buf_t buf = net_buf(offset, 60000);
        count = evl_try_write(net_stream(&tcp), &buf, 1);
        CHECK_NE(count, 0);
        CHECK_LE(count, 60000);
        if (count > 0)
            offset += (size_t)count;
    } while (count > 0);
    CHECK_EQ(count, EVL_EAGAIN);
    CHECK_EQ(tcp.write_queue_size, 0);

    evl_buf_t queued = net_buf(offset, 100);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &queued, 1, on_write_flag), 0);
    CHECK_EQ(tcp.write_queue_size, 100);
    CHECK_EQ(net_raw_drain(peer, &got), 0);
    /* The kernel has room again, but the queue comes first. */
    evl_buf_t next = net_buf(offset + 100, 10);
    CHECK_EQ(evl_try_write(net_stream(&tcp), &next, 1), EVL_EAGAIN);
    NET_UNTIL(&net.loop, written);
    CHECK_EQ(evl_try_write(net_stream(&tcp), &next, 1), 10);
    net_pull(&net, peer, &got, offset + 110);
    os_close(peer);
    net_close(&net);
}

TEST(stream_write_refused) {
    net_t net;
    evl_tcp_t tcp, other;
    evl_write_t req;
    evl_buf_t buf = net_buf(0, 10);
    evl_buf_t huge[3];
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 0, on_write_never), EVL_EINVAL);
    CHECK_EQ(evl_try_write(net_stream(&tcp), &buf, 0), EVL_EINVAL);
    for (size_t i = 0; i < NET_COUNT(huge); i++) {
        huge[i] = buf;
        huge[i].len = (size_t)1 << 30;
    }
    CHECK_EQ(evl_write(&req, net_stream(&tcp), huge, 3, on_write_never), EVL_EINVAL);
    CHECK_EQ(evl_try_write(net_stream(&tcp), huge, 3), EVL_EINVAL);
    CHECK_EQ(evl_tcp_init_ex(&net.loop, &other, AF_INET), 0);
    CHECK_EQ(evl_write2(&req, net_stream(&tcp), &buf, 1, net_stream(&other), on_write_never),
             EVL_EINVAL);
    CHECK_EQ(evl_try_write2(net_stream(&tcp), &buf, 1, net_stream(&other)), EVL_EINVAL);
    CHECK_EQ(tcp.write_queue_size, 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(net_raw_drain(peer, &got), 0);
    CHECK_EQ(got, 0);
    CHECK_EQ(evl_write2(&req, net_stream(&tcp), &buf, 1, NULL, NULL), 0);
    evl_run(&net.loop, EVL_RUN_DEFAULT);
    CHECK_EQ(net_raw_drain(peer, &got), 0);
    CHECK_EQ(got, 10);
    evl_close(net_handle(&tcp), NULL);
    CHECK_LT(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_never), 0);
    CHECK_LT(evl_try_write(net_stream(&tcp), &buf, 1), 0);
    os_close(peer);
    net_close(&net);
}

/* What the kernel has not taken is in the queue: no byte more, no byte less. */
TEST(stream_write_queue_size) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[4];
    int written = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    size_t offset = net_stuff(&tcp);
    size_t queued = 0;
    CHECK_EQ(evl_stream_get_write_queue_size(net_stream(&tcp)), 0);
    for (size_t i = 0; i < NET_COUNT(reqs); i++) {
        evl_buf_t buf = net_buf(offset, 5000 + i);
        offset += 5000 + i;
        queued += 5000 + i;
        reqs[i].data = &written;
        CHECK_EQ(evl_write(&reqs[i], net_stream(&tcp), &buf, 1, on_write_count), 0);
        CHECK_EQ(tcp.write_queue_size, queued);
        CHECK_EQ(evl_stream_get_write_queue_size(net_stream(&tcp)), queued);
    }
    while (got < offset) {
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        CHECK_LE(tcp.write_queue_size, queued);
        queued = tcp.write_queue_size;
        *net_waiting() = "what the kernel has taken\n";
        do
            net_raw_drain(peer, &got);
        while (got < offset - queued);
        CHECK_EQ(got, offset - queued);
    }
    NET_UNTIL(&net.loop, written == 4);
    CHECK_EQ(tcp.write_queue_size, 0);
    os_close(peer);
    net_close(&net);
}

/* Once the queue is empty, room in the kernel is nobody's business any more. */
TEST(stream_write_queue_empty_idles) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    evl_write_t req;
    int written = 0;
    size_t got = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    tcp.data = &sink;
    evl_buf_t buf = net_buf(0, 60000);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    CHECK_LE(net_run_ms(&net.loop, 5), 5); /* nor is a full one */
    net_pull(&net, peer, &got, 60000);
    NET_UNTIL(&net.loop, written);
    CHECK_LE(net_run_ms(&net.loop, 10), 8);
    os_close(peer);
    net_close(&net);
}

/* A queued write keeps the loop alive although nothing else does. */
TEST(stream_write_keeps_the_loop_alive) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    int written = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    size_t offset = net_stuff(&tcp);
    evl_unref(net_handle(&tcp));
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
    evl_buf_t buf = net_buf(offset, 1000);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_NE(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
    CHECK_NE(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(written, 0);
    net_raw_drain(peer, &got);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(written, 1);
    os_close(peer);
    net_close(&net);
}

/* Room that comes while nothing is queued must be noticed by the write after it. */
TEST(stream_write_after_idle_room) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    size_t offset = 0, got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    for (int round = 0; round < 20; round++) {
        int written = 0;
        for (;;) { /* until the kernel is full */
            evl_buf_t part = net_buf(offset, 2000);
            int count = evl_try_write(net_stream(&tcp), &part, 1);
            if (count == EVL_EAGAIN)
                break;
            offset += (size_t)count;
        }
        if (round % 2 == 0)
            evl_run(&net.loop, EVL_RUN_NOWAIT);
        net_raw_drain(peer, &got);
        if (round % 3 == 0)
            evl_run(&net.loop, EVL_RUN_NOWAIT);
        evl_buf_t buf = net_buf(offset, 30000);
        offset += 30000;
        req.data = &written;
        CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
        net_pull(&net, peer, &got, offset);
        NET_UNTIL(&net.loop, written);
    }
    os_close(peer);
    net_close(&net);
}

typedef struct {
    evl_os_sock_t peer;
    size_t got;
    size_t want;
} drain_t;

static void *drain_thread(void *arg) {
    drain_t *drain = (drain_t *)arg;
    static char bytes[NET_CHUNK];
    test_sleep_ms(20);
    while (drain->got < drain->want) {
        long count = os_recv(drain->peer, bytes, sizeof(bytes));
        CHECK_GT(count, 0);
        net_check(bytes, drain->got, (size_t)count);
        drain->got += (size_t)count;
    }
    return NULL;
}

TEST(stream_set_blocking) {
    enum { LENGTH = 300000 };
    net_t net;
    evl_tcp_t tcp, none;
    evl_write_t req;
    net_sink_t sink;
    drain_t drain;
    os_thread_t thread;
    int written = 0;
    char *bytes = (char *)malloc(LENGTH);
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    net_fill(bytes, 0, LENGTH);
    CHECK_EQ(evl_tcp_init(&net.loop, &none), 0);
    CHECK_EQ(evl_stream_set_blocking(net_stream(&none), 1), EVL_EBADF);
    drain.peer = net_half_tight(&net, &tcp);
    drain.got = 0;
    drain.want = LENGTH;
    CHECK_EQ(evl_stream_set_blocking(net_stream(&tcp), 1), 0);
    /* Reads do not block: a timer runs although there is nothing to read. */
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    net_run_ms(&net.loop, 5);
    start_thread(&thread, drain_thread, &drain);
    evl_buf_t buf = evl_buf_init(bytes, LENGTH);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_EQ(tcp.write_queue_size, 0);
    CHECK_EQ(written, 0);
    join_thread(thread);
    CHECK_EQ(drain.got, LENGTH);
    NET_UNTIL(&net.loop, written);
    net_raw_write(drain.peer, net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    net_run_ms(&net.loop, 5);

    CHECK_EQ(evl_stream_set_blocking(net_stream(&tcp), 0), 0);
    written = 0;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_GT(tcp.write_queue_size, 0);
    size_t got = 0;
    net_pull(&net, drain.peer, &got, LENGTH);
    NET_UNTIL(&net.loop, written);
    os_close(drain.peer);
    net_close(&net);
    free(bytes);
}

/* ---- Shutdown and half-open connections ------------------------------------------------------ */

TEST(stream_shutdown_after_writes) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[3];
    evl_shutdown_t shut, second;
    int written = 0, shut_done = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    size_t offset = net_stuff(&tcp);
    for (size_t i = 0; i < NET_COUNT(reqs); i++) {
        evl_buf_t buf = net_buf(offset, 20000);
        offset += 20000;
        reqs[i].data = &written;
        CHECK_EQ(evl_write(&reqs[i], net_stream(&tcp), &buf, 1, on_write_count), 0);
    }
    shut.data = &shut_done;
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 1);
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), on_shutdown_flag), 0);
    CHECK_EQ(shut.type, EVL_SHUTDOWN);
    CHECK_PTR(shut.handle, &tcp);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 1);
    CHECK_EQ(evl_shutdown(&second, net_stream(&tcp), on_shutdown_never), EVL_ENOTCONN);
    evl_buf_t late = net_buf(0, 1);
    CHECK_EQ(evl_write(&reqs[0], net_stream(&tcp), &late, 1, on_write_never), EVL_EPIPE);
    while (net_raw_drain(peer, &got) == 0) {
        CHECK(!shut_done || written == 3);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
    }
    CHECK_EQ(got, offset);
    NET_UNTIL(&net.loop, shut_done);
    CHECK_EQ(written, 3);
    CHECK_EQ(evl_shutdown(&second, net_stream(&tcp), on_shutdown_never), EVL_ENOTCONN);
    CHECK_EQ(evl_write(&reqs[0], net_stream(&tcp), &late, 1, on_write_never), EVL_EPIPE);
    CHECK_EQ(evl_try_write(net_stream(&tcp), &late, 1), EVL_EPIPE);
    os_close(peer);
    net_close(&net);
}

TEST(stream_shutdown_is_deferred) {
    net_t net;
    evl_tcp_t tcp;
    evl_shutdown_t shut;
    int shut_done = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    shut.data = &shut_done;
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), on_shutdown_flag), 0);
    CHECK_EQ(shut_done, 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(shut_done, 1);
    net_raw_await(peer);
    CHECK_EQ(net_raw_drain(peer, &got), -1);
    os_close(peer);
    net_close(&net);
}

/* The peer has ended its side; ours still writes, and theirs still reads. */
TEST(stream_half_closed_by_the_peer) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    evl_write_t req;
    size_t got = 0;
    int written = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    CHECK_EQ(os_shutdown(peer), 0);
    NET_UNTIL(&net.loop, sink.ends == 1);
    CHECK_EQ(sink.end, EVL_EOF);
    CHECK_EQ(sink.bytes, 100);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 1);
    char *bytes = (char *)malloc(2000000);
    net_fill(bytes, 0, 2000000);
    evl_buf_t buf = evl_buf_init(bytes, 2000000);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    net_pull(&net, peer, &got, 2000000);
    NET_UNTIL(&net.loop, written);
    CHECK_EQ(sink.ends, 1);
    free(bytes);
    os_close(peer);
    net_close(&net);
}

/* Ours has ended its side and still reads. */
TEST(stream_half_closed_by_us) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    evl_shutdown_t shut;
    int shut_done = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    shut.data = &shut_done;
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp), on_shutdown_flag), 0);
    NET_UNTIL(&net.loop, shut_done);
    net_raw_write(peer, net_bytes(0), 5000);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 5000);
    net_raw_write(peer, net_bytes(5000), 7);
    NET_UNTIL(&net.loop, sink.bytes == 5007);
    os_close(peer);
    NET_UNTIL(&net.loop, sink.ends == 1);
    CHECK_EQ(sink.end, EVL_EOF);
    net_close(&net);
}

/* Half-closed and fully closed connections that nobody closes cost no turns of the loop. */
TEST(stream_ended_connections_idle) {
    net_t net;
    evl_tcp_t tcp[4];
    net_sink_t sinks[4];
    evl_shutdown_t shut;
    evl_os_sock_t peers[4];
    int shut_done = 0;
    net_open(&net);
    memset(sinks, 0, sizeof(sinks));
    for (int i = 0; i < 4; i++) {
        peers[i] = net_half(&net, &tcp[i]);
        tcp[i].data = &sinks[i];
        CHECK_EQ(evl_read_start(net_stream(&tcp[i]), NULL, net_on_read), 0);
    }
    shut.data = &shut_done;
    CHECK_EQ(os_shutdown(peers[0]), 0); /* 0: their end */
    CHECK_EQ(evl_shutdown(&shut, net_stream(&tcp[1]), on_shutdown_flag), 0);
    CHECK_EQ(os_shutdown(peers[1]), 0); /* 1: both ends */
    net_raw_reset(peers[2]);            /* 2: reset */
    CHECK_EQ(evl_read_stop(net_stream(&tcp[3])), 0);
    net_raw_write(peers[3], "x", 1); /* 3: unread, then ended, not reading */
    os_close(peers[3]);
    NET_UNTIL(&net.loop, sinks[0].ends + sinks[1].ends + sinks[2].ends == 3 && shut_done);
    CHECK_EQ(sinks[0].end, EVL_EOF);
    CHECK_EQ(sinks[1].end, EVL_EOF);
    CHECK_EQ(sinks[2].end, net_tells_resets() ? EVL_ECONNRESET : EVL_EOF);
    CHECK_LE(net_run_ms(&net.loop, 60), 8);
    CHECK_EQ(sinks[3].reads + sinks[3].ends, 0);
    os_close(peers[0]);
    os_close(peers[1]);
    CHECK_LE(net_run_ms(&net.loop, 40), 10);
    CHECK_EQ(sinks[0].ends + sinks[1].ends + sinks[2].ends, 3);
    net_close(&net);
}

TEST(stream_read_start_after_the_end) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    net_raw_write(peer, net_bytes(0), 10);
    CHECK_EQ(os_shutdown(peer), 0);
    for (int round = 1; round <= 3; round++) {
        CHECK_EQ(evl_read_start(net_stream(&tcp), round == 2 ? NULL : net_alloc, net_on_read), 0);
        CHECK_EQ(evl_is_active(net_handle(&tcp)), 1);
        NET_UNTIL(&net.loop, sink.ends == round);
        CHECK_EQ(sink.end, EVL_EOF);
        CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0); /* nothing keeps it */
    }
    CHECK_EQ(sink.bytes, 10);
    os_close(peer);
    net_close(&net);
}

static void on_read_restart(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    net_sink_t *sink = (net_sink_t *)stream->data;
    net_on_read(stream, nread, buf);
    if (nread == EVL_EOF && sink->ends < 5)
        CHECK_EQ(evl_read_start(stream, NULL, on_read_restart), 0);
}

TEST(stream_read_start_in_the_end_callback) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, on_read_restart), 0);
    net_raw_write(peer, net_bytes(0), 10);
    os_close(peer);
    NET_UNTIL(&net.loop, sink.ends == 5);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(sink.ends, 5);
    CHECK_EQ(sink.bytes, 10);
    net_close(&net);
}

/* ---- Reading: start and stop ----------------------------------------------------------------- */

TEST(stream_read_start_refused) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, NULL), EVL_EINVAL);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, net_on_read), 0);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 1);
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, on_read_never), EVL_EALREADY);
    net_raw_write(peer, net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
    CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, on_read_never), EVL_EINVAL);
    CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
    os_close(peer);
    net_close(&net);
}

TEST(stream_reading_and_references) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    evl_unref(net_handle(&tcp));
    evl_unref(net_handle(&tcp));
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    evl_ref(net_handle(&tcp));
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    os_close(peer);
    net_close(&net);
}

typedef struct {
    net_sink_t sink; /* first: the callback below hands `data` on */
    evl_alloc_cb alloc_cb;
    int stopped;
    int restart;
} stopper_t;

/* Stops at every chunk, and starts again at once if `restart` says so. */
static void on_read_stop(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    stopper_t *stopper = (stopper_t *)stream->data;
    CHECK(!stopper->stopped);
    net_on_read(stream, nread, buf);
    if (nread <= 0)
        return;
    CHECK_EQ(evl_read_stop(stream), 0);
    stopper->stopped = 1;
    if (!stopper->restart)
        return;
    stopper->stopped = 0;
    CHECK_EQ(evl_read_start(stream, stopper->alloc_cb, on_read_stop), 0);
}

/* All the data is there from the start; each start of reading gets one small chunk more. No event
 * comes in between to tell of it. */
TEST(stream_read_stop_at_every_chunk) {
    net_t net;
    evl_tcp_t tcp;
    stopper_t stopper;
    net_open(&net);
    memset(&stopper, 0, sizeof(stopper));
    stopper.alloc_cb = net_alloc_small;
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &stopper;
    net_raw_write(peer, net_bytes(0), 700);
    for (long round = 1; round <= 100; round++) {
        stopper.stopped = 0;
        CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc_small, on_read_stop), 0);
        NET_UNTIL(&net.loop, stopper.sink.reads == round);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
        CHECK_EQ(stopper.sink.reads, round);
    }
    CHECK_EQ(stopper.sink.bytes, 700);
    os_close(peer);
    stopper.stopped = 0;
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc_small, on_read_stop), 0);
    NET_UNTIL(&net.loop, stopper.sink.ends == 1);
    net_close(&net);
}

TEST(stream_read_stop_and_start_in_the_callback) {
    net_t net;
    evl_tcp_t tcp;
    stopper_t stopper;
    net_open(&net);
    for (int lent = 0; lent < 2; lent++) {
        memset(&stopper, 0, sizeof(stopper));
        stopper.alloc_cb = lent ? NULL : net_alloc_small;
        stopper.restart = 1;
        evl_os_sock_t peer = net_half(&net, &tcp);
        tcp.data = &stopper;
        CHECK_EQ(evl_read_start(net_stream(&tcp), stopper.alloc_cb, on_read_stop), 0);
        net_raw_write(peer, net_bytes(0), 3000);
        NET_UNTIL(&net.loop, stopper.sink.bytes == 3000);
        net_raw_write(peer, net_bytes(3000), 1);
        os_close(peer);
        NET_UNTIL(&net.loop, stopper.sink.ends == 1);
        CHECK_EQ(stopper.sink.bytes, 3001);
        int closed = 0;
        tcp.data = &closed;
        evl_close(net_handle(&tcp), net_flag_close);
        NET_UNTIL(&net.loop, closed);
    }
    net_close(&net);
}

/* Data that comes before reading starts, while it is stopped, with and without turns of the loop in
 * between. */
TEST(stream_read_what_came_while_stopped) {
    for (int turns = 0; turns < 3; turns++) {
        net_t net;
        evl_tcp_t tcp;
        net_sink_t sink;
        evl_write_t req;
        net_open(&net);
        memset(&sink, 0, sizeof(sink));
        evl_os_sock_t peer = net_half(&net, &tcp);
        tcp.data = &sink;
        if (turns == 2) { /* known to the poller already, through a write */
            evl_buf_t buf = net_buf(0, 1);
            CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, NULL), 0);
            evl_run(&net.loop, EVL_RUN_DEFAULT);
        }
        size_t sent = 0;
        for (int round = 0; round < 10; round++) {
            net_raw_write(peer, net_bytes(sent), 100);
            sent += 100;
            for (int i = 0; i < turns; i++)
                evl_run(&net.loop, EVL_RUN_NOWAIT);
            CHECK_EQ(sink.bytes, sent - 100);
            CHECK_EQ(evl_read_start(net_stream(&tcp), round % 2 ? NULL : net_alloc, net_on_read),
                     0);
            CHECK_EQ(sink.bytes, sent - 100); /* never from inside read_start */
            NET_UNTIL(&net.loop, sink.bytes == sent);
            CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
            for (int i = 0; i < turns; i++)
                evl_run(&net.loop, EVL_RUN_NOWAIT);
        }
        /* Started and stopped without a turn: nothing is lost either. */
        net_raw_write(peer, net_bytes(sent), 100);
        sent += 100;
        CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
        CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
        CHECK_EQ(sink.bytes, sent - 100);
        CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
        NET_UNTIL(&net.loop, sink.bytes == sent);
        os_close(peer);
        net_close(&net);
    }
}

/* The data is announced, then somebody else takes it: no error, and what comes next is read. */
TEST(stream_read_announced_data_is_gone) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    char bytes[10];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
    net_raw_write(peer, "0123456789", 10);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_read(net_fileno(&tcp), bytes, sizeof(bytes));
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(sink.reads + sink.ends, 0);
    net_raw_write(peer, net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    os_close(peer);
    net_close(&net);
}

/* Chunks that fill the buffer exactly say nothing of what is behind them. */
TEST(stream_read_exactly_filled_buffers) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc_small, net_on_read), 0);
    size_t sent = 0;
    for (int round = 0; round < 20; round++) {
        net_raw_write(peer, net_bytes(sent), 7 * (size_t)(round % 3 + 1));
        sent += 7 * (size_t)(round % 3 + 1);
        NET_UNTIL(&net.loop, sink.bytes == sent);
        if (round % 2 == 0)
            evl_run(&net.loop, EVL_RUN_NOWAIT);
    }
    net_raw_write(peer, net_bytes(sent), 7);
    os_close(peer);
    NET_UNTIL(&net.loop, sink.ends == 1);
    CHECK_EQ(sink.bytes, sent + 7);
    CHECK_EQ(sink.end, EVL_EOF);
    net_close(&net);
}

/* A read ends at the mark of urgent data although more is there. */
TEST(stream_read_past_an_urgent_mark) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    SKIP_ON_LIBKQUEUE("it counts the bytes before an urgent mark as all that wait");
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    net_raw_write(peer, net_bytes(0), 100);
    CHECK_EQ(send(peer, "!", 1, MSG_OOB), 1);
    net_raw_write(peer, net_bytes(100), 100);
    net_raw_await(net_fileno(&tcp));
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 200);
    os_close(peer);
    net_close(&net);
}

/* ---- Reading: ends and errors ---------------------------------------------------------------- */

/* Data and the end that follows it arrive as one event. */
TEST(stream_read_data_and_end_in_one_event) {
    static const size_t sizes[] = {0, 1, 7, 14, 700, 65535, 65536, 100000};
    for (size_t i = 0; i < NET_COUNT(sizes); i++)
        for (int mode = 0; mode < 4; mode++) {
            net_t net;
            evl_tcp_t tcp;
            net_sink_t sink;
            evl_alloc_cb alloc_cb = mode == 0 ? NULL : mode == 1 ? net_alloc : net_alloc_small;
            if (mode >= 2 && sizes[i] > 1000)
                continue;
            net_open(&net);
            memset(&sink, 0, sizeof(sink));
            evl_os_sock_t peer = net_half(&net, &tcp);
            tcp.data = &sink;
            if (mode == 3) { /* the poller knows the descriptor, and finds both at once */
                CHECK_EQ(evl_read_start(net_stream(&tcp), alloc_cb, net_on_read), 0);
                evl_run(&net.loop, EVL_RUN_NOWAIT);
                CHECK_EQ(evl_read_stop(net_stream(&tcp)), 0);
            }
            for (size_t sent = 0; sent < sizes[i];) {
                size_t part = sizes[i] - sent < NET_CHUNK ? sizes[i] - sent : NET_CHUNK;
                net_raw_write(peer, net_bytes(sent), part);
                sent += part;
            }
            os_close(peer);
            CHECK_EQ(evl_read_start(net_stream(&tcp), alloc_cb, net_on_read), 0);
            NET_UNTIL(&net.loop, sink.ends > 0);
            CHECK_EQ(sink.end, EVL_EOF);
            CHECK_EQ(sink.bytes, sizes[i]);
            net_run_ms(&net.loop, 1);
            CHECK_EQ(sink.ends, 1);
            net_close(&net);
        }
}

TEST(stream_read_reset) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    evl_write_t req;
    evl_buf_t buf = net_buf(0, 1);
    net_need_resets();
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_reset(peer);
    NET_UNTIL(&net.loop, sink.ends > 0);
    CHECK_EQ(sink.end, EVL_ECONNRESET);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(sink.ends, 1);
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), EVL_ENOTCONN);
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_never), EVL_EPIPE);
    net_close(&net);
}

/* Reset while nobody reads, while a write is queued, or before reading starts. */
static void on_write_failed(evl_write_t *req, int status) {
    CHECK_LT(status, 0);
    CHECK(status == EVL_EPIPE || status == EVL_ECONNRESET || status == EVL_ECANCELED);
    (*(int *)req->data)++;
}

TEST(stream_reset_fails_queued_writes) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[5];
    int failed = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    char *bytes = (char *)calloc(1, 8 << 20);
    evl_buf_t buf = evl_buf_init(bytes, 8 << 20);
    for (size_t i = 0; i < NET_COUNT(reqs); i++) {
        reqs[i].data = &failed;
        CHECK_EQ(evl_write(&reqs[i], net_stream(&tcp), &buf, 1, on_write_failed), 0);
    }
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_EQ(failed, 0);
    net_raw_reset(peer);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(failed, 5);
    CHECK_EQ(tcp.write_queue_size, 0);
    free(bytes);
    net_close(&net);
    CHECK_EQ(failed, 5);
}

/* The peer is gone: writes fail with an error code, and SIGPIPE stays away at its default. */
TEST(stream_write_to_a_closed_peer) {
    net_t net;
    evl_tcp_t tcp[2];
    net_open(&net);
    for (int mode = 0; mode < 2; mode++) { /* TCP, and a local socket, which knows at once */
        evl_os_sock_t peer = mode == 0 ? net_half(&net, &tcp[0]) : net_half_tight(&net, &tcp[1]);
        evl_stream_t *stream = net_stream(&tcp[mode]);
        os_close(peer);
        int result = 0;
        *net_waiting() = "a write to a closed peer to fail\n";
        for (int i = 0; i < 10 && result >= 0; i++) {
            evl_buf_t buf = net_buf(0, 1000);
            result = evl_try_write(stream, &buf, 1);
            test_sleep_ms(1);
        }
        CHECK(result == EVL_EPIPE || result == EVL_ECONNRESET);
        evl_write_t req;
        int failed = 0;
        evl_buf_t bufs[6];
        for (size_t i = 0; i < NET_COUNT(bufs); i++)
            bufs[i] = net_buf(0, 10);
        req.data = &failed;
        result = evl_write(&req, stream, bufs, NET_COUNT(bufs), on_write_failed);
        CHECK_EQ(failed, 0);
        if (result == 0)
            NET_UNTIL(&net.loop, failed == 1);
        else
            CHECK_EQ(result, EVL_EPIPE);
    }
    os_check_sigpipe();
    net_close(&net);
}

/* ---- Allocation callbacks -------------------------------------------------------------------- */

static void on_alloc_null(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(NULL, 0);
}

static void on_alloc_zero(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char byte;
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(&byte, 0);
}

static void on_alloc_nowhere(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = evl_buf_init(NULL, 100);
}

static void on_alloc_untouched(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    (void)handle;
    (void)suggested;
    (void)buf;
}

static void on_read_no_room(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)buf;
    CHECK_EQ(nread, EVL_ENOBUFS);
    (*(int *)stream->data)++;
    CHECK_EQ(evl_read_stop(stream), 0);
}

TEST(stream_alloc_gives_nothing) {
    static const evl_alloc_cb allocs[] = {on_alloc_null, on_alloc_zero, on_alloc_nowhere,
                                          on_alloc_untouched};
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    int refused = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    net_raw_write(peer, net_bytes(0), 100);
    tcp.data = &refused;
    for (size_t i = 0; i < NET_COUNT(allocs); i++) {
        CHECK_EQ(evl_read_start(net_stream(&tcp), allocs[i], on_read_no_room), 0);
        NET_UNTIL(&net.loop, refused == (int)i + 1);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        CHECK_EQ(refused, (int)i + 1);
    }
    tcp.data = &sink; /* nothing is lost */
    CHECK_EQ(evl_is_readable(net_stream(&tcp)), 1);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 100);
    os_close(peer);
    net_close(&net);
}

typedef struct {
    int allocs;
    int closed;
    int mode; /* 0: close, 1: stop, in the allocation callback */
} allocator_t;

static void allocator_on_close(evl_handle_t *handle) {
    ((allocator_t *)handle->data)->closed = 1;
}

static void on_alloc_end(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    allocator_t *allocator = (allocator_t *)handle->data;
    net_alloc(handle, suggested, buf);
    allocator->allocs++;
    if (allocator->mode == 0)
        evl_close(handle, allocator_on_close);
    else
        CHECK_EQ(evl_read_stop((evl_stream_t *)handle), 0);
}

TEST(stream_close_or_stop_in_alloc) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    for (int mode = 0; mode < 2; mode++) {
        allocator_t allocator;
        net_sink_t sink;
        memset(&allocator, 0, sizeof(allocator));
        memset(&sink, 0, sizeof(sink));
        allocator.mode = mode;
        evl_os_sock_t peer = net_half(&net, &tcp);
        tcp.data = &allocator;
        net_raw_write(peer, net_bytes(0), 100);
        CHECK_EQ(evl_read_start(net_stream(&tcp), on_alloc_end, on_read_never), 0);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(allocator.allocs, 1);
        CHECK_EQ(allocator.closed, mode == 0);
        if (mode == 1) { /* what was there is still there */
            tcp.data = &sink;
            CHECK_EQ(evl_read_start(net_stream(&tcp), net_alloc, net_on_read), 0);
            NET_UNTIL(&net.loop, sink.bytes == 100);
        }
        os_close(peer);
    }
    net_close(&net);
}

/* The suggested size is what the loop itself would take; a larger or smaller buffer is fine. */
static void on_alloc_large(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    static char bytes[300000];
    (void)handle;
    CHECK_GE(suggested, 1024);
    *buf = evl_buf_init(bytes, sizeof(bytes));
}

TEST(stream_alloc_large) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    for (size_t sent = 0; sent < 3 * NET_CHUNK; sent += NET_CHUNK)
        net_raw_write(peer, net_bytes(sent), NET_CHUNK);
    CHECK_EQ(evl_read_start(net_stream(&tcp), on_alloc_large, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 3 * NET_CHUNK);
    os_close(peer);
    net_close(&net);
}

/* Each buffer that was asked for comes back with a callback, even when there was nothing to read
 * after all; then the loop sleeps. */
typedef struct {
    net_sink_t sink; /* first, for net_on_read */
    int out;         /* buffers that are with the library */
} lender_t;

static void lender_on_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    lender_t *lender = (lender_t *)handle->data;
    CHECK_EQ(lender->out, 0);
    lender->out++;
    net_alloc_small(handle, suggested, buf);
}

static void lender_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    ((lender_t *)stream->data)->out--;
    CHECK_EQ(buf->len, 7);
    net_on_read(stream, nread, buf);
}

TEST(stream_alloc_comes_back) {
    net_t net;
    evl_tcp_t tcp;
    lender_t lender;
    net_open(&net);
    memset(&lender, 0, sizeof(lender));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &lender;
    CHECK_EQ(evl_read_start(net_stream(&tcp), lender_on_alloc, lender_on_read), 0);
    for (size_t round = 1; round <= 5; round++) {
        net_raw_write(peer, net_bytes(lender.sink.bytes), 7 * round); /* exactly filled */
        CHECK_LE(net_run_ms(&net.loop, 10), 10);
        CHECK_EQ(lender.out, 0);
    }
    CHECK_EQ(lender.sink.bytes, 7 * 15);
    os_close(peer);
    NET_UNTIL(&net.loop, lender.sink.ends == 1);
    CHECK_EQ(lender.out, 0);
    net_close(&net);
}

/* Two connections read into lent buffers in one turn; each sees its own bytes. */
TEST(stream_lent_buffers_of_two) {
    net_t net;
    evl_tcp_t tcp[2];
    net_sink_t sinks[2];
    evl_os_sock_t peers[2];
    size_t sent = 0;
    net_open(&net);
    memset(sinks, 0, sizeof(sinks));
    for (int i = 0; i < 2; i++) {
        peers[i] = net_half(&net, &tcp[i]);
        tcp[i].data = &sinks[i];
        sinks[i].bytes = (size_t)i * 1000; /* the second is ahead in the stream */
        CHECK_EQ(evl_read_start(net_stream(&tcp[i]), NULL, net_on_read), 0);
    }
    for (int round = 0; round < 50; round++) {
        size_t size = 1 + (size_t)round * 17;
        net_raw_write(peers[0], net_bytes(sent), size);
        net_raw_write(peers[1], net_bytes(sent + 1000), size);
        sent += size;
        NET_UNTIL(&net.loop, sinks[0].bytes == sent && sinks[1].bytes == sent + 1000);
    }
    os_close(peers[0]);
    os_close(peers[1]);
    net_close(&net);
}

/* ---- Closing --------------------------------------------------------------------------------- */

/* A connection that is closed in one of its callbacks; all memory that is the user's again is
 * poisoned at once, and must stay as it is. */
typedef enum {
    CLOSE_IN_ALLOC,
    CLOSE_IN_READ,
    CLOSE_IN_LENT_READ,
    CLOSE_IN_END,
    CLOSE_IN_WRITE,
    CLOSE_IN_SECOND_WRITE,
    CLOSE_IN_SHUTDOWN,
    CLOSE_WAYS
} close_way_t;

typedef struct {
    evl_tcp_t tcp;
    evl_write_t writes[3];
    evl_shutdown_t shut;
} victim_t;

typedef struct {
    victim_t *victim;
    close_way_t way;
    int writes_done;
    int shut_done;
    int closes;
} plan_t;

static plan_t *the_plan; /* the requests' own memory is poisoned */

static void plan_close(close_way_t here);

static void plan_on_close(evl_handle_t *handle) {
    CHECK_PTR(handle, &the_plan->victim->tcp);
    CHECK_EQ(the_plan->writes_done, 3);
    CHECK_EQ(the_plan->shut_done, 1);
    the_plan->closes++;
    memset(&the_plan->victim->tcp, 0xA5, sizeof(evl_tcp_t));
}

static void plan_close(close_way_t here) {
    if (the_plan->way == here)
        evl_close((evl_handle_t *)&the_plan->victim->tcp, plan_on_close);
}

static void plan_on_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    CHECK(!evl_is_closing(handle));
    net_alloc(handle, suggested, buf);
    plan_close(CLOSE_IN_ALLOC);
}

static void plan_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)buf;
    CHECK(!evl_is_closing((evl_handle_t *)stream));
    if (nread > 0)
        plan_close(CLOSE_IN_READ);
    if (nread > 0 && !evl_is_closing((evl_handle_t *)stream))
        plan_close(CLOSE_IN_LENT_READ);
    if (nread == EVL_EOF)
        plan_close(CLOSE_IN_END);
}

static void plan_on_write(evl_write_t *req, int status) {
    int closing = evl_is_closing((evl_handle_t *)&the_plan->victim->tcp);
    CHECK(status == 0 || (closing && status == EVL_ECANCELED));
    CHECK_PTR(req, &the_plan->victim->writes[the_plan->writes_done]);
    memset(req, 0xA5, sizeof(*req));
    the_plan->writes_done++;
    if (the_plan->writes_done == 1)
        plan_close(CLOSE_IN_WRITE);
    if (the_plan->writes_done == 2)
        plan_close(CLOSE_IN_SECOND_WRITE);
}

static void plan_on_shutdown(evl_shutdown_t *req, int status) {
    CHECK(status == 0 || status == EVL_ECANCELED);
    CHECK_EQ(the_plan->writes_done, 3);
    memset(req, 0xA5, sizeof(*req));
    the_plan->shut_done++;
    plan_close(CLOSE_IN_SHUTDOWN);
}

static void close_in_callback(close_way_t way, int tight) {
    net_t net;
    evl_tcp_t other;
    net_sink_t sink;
    plan_t plan;
    victim_t *victim = (victim_t *)malloc(sizeof(*victim));
    net_open(&net);
    memset(&plan, 0, sizeof(plan));
    memset(&sink, 0, sizeof(sink));
    the_plan = &plan;
    plan.victim = victim;
    plan.way = way;
    evl_os_sock_t peer = tight ? net_half_tight(&net, &victim->tcp) : net_half(&net, &victim->tcp);
    evl_os_sock_t other_peer = net_half(&net, &other);
    other.data = &sink;
    evl_alloc_cb alloc_cb = way == CLOSE_IN_LENT_READ ? NULL : plan_on_alloc;
    CHECK_EQ(evl_read_start(net_stream(&other), NULL, net_on_read), 0);
    CHECK_EQ(evl_read_start(net_stream(&victim->tcp), alloc_cb, plan_on_read), 0);
    for (size_t i = 0; i < NET_COUNT(victim->writes); i++) {
        evl_buf_t bufs[5]; /* with a block of their own */
        for (size_t b = 0; b < NET_COUNT(bufs); b++)
            bufs[b] = net_buf(0, tight ? 1000 : 100);
        CHECK_EQ(evl_write(&victim->writes[i], net_stream(&victim->tcp), bufs, 5, plan_on_write),
                 0);
    }
    CHECK_EQ(evl_shutdown(&victim->shut, net_stream(&victim->tcp), plan_on_shutdown), 0);
    net_raw_write(peer, net_bytes(0), 100);
    CHECK_EQ(os_shutdown(peer), 0);
    *net_waiting() = "a connection to be closed in its callback\n";
    char bytes[512];
    while (plan.closes == 0) {
        CHECK(net_turn(&net.loop) != 0 || plan.closes > 0);
        while (os_recv_now(peer, bytes, sizeof(bytes)) > 0)
            continue;
    }
    for (size_t round = 0; round < 10; round++) { /* life goes on */
        net_raw_write(other_peer, net_bytes(round * 50), 50);
        NET_UNTIL(&net.loop, sink.bytes == round * 50 + 50);
    }
    CHECK_EQ(plan.closes, 1);
    CHECK_EQ(plan.writes_done, 3);
    CHECK_EQ(plan.shut_done, 1);
    for (size_t i = 0; i < sizeof(*victim); i++)
        CHECK_EQ(((unsigned char *)victim)[i], 0xA5);
    os_close(peer);
    os_close(other_peer);
    net_close(&net);
    free(victim);
}

TEST(stream_close_in_callbacks) {
    for (int way = 0; way < CLOSE_WAYS; way++) {
        close_in_callback((close_way_t)way, 0);
        close_in_callback((close_way_t)way, 1);
    }
}

TEST(stream_close_in_callbacks_in_slices) {
    *net_slices() = 1;
    for (int way = 0; way < CLOSE_WAYS; way++) {
        close_in_callback((close_way_t)way, 0);
        close_in_callback((close_way_t)way, 1);
    }
}

/* Both ends have data in the same turn; whoever runs first closes both. */
typedef struct {
    evl_tcp_t ends[2];
    int reads;
    int closes;
} twins_t;

static void twins_on_close(evl_handle_t *handle) {
    twins_t *twins = (twins_t *)handle->data;
    twins->closes++;
    memset(handle, 0xA5, sizeof(evl_tcp_t));
}

static void twins_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    twins_t *twins = (twins_t *)stream->data;
    (void)buf;
    if (nread == 0)
        return;
    twins->reads++;
    for (int i = 0; i < 2; i++)
        evl_close((evl_handle_t *)&twins->ends[i], twins_on_close);
}

TEST(stream_close_both_ends_from_each_other) {
    for (int lent = 0; lent < 2; lent++) {
        net_t net;
        twins_t *twins = (twins_t *)calloc(1, sizeof(*twins));
        evl_write_t reqs[2];
        net_open(&net);
        net_pair(&net, &twins->ends[0], &twins->ends[1]);
        for (int i = 0; i < 2; i++) {
            evl_buf_t buf = net_buf(0, 10);
            twins->ends[i].data = twins;
            CHECK_EQ(evl_write(&reqs[i], net_stream(&twins->ends[i]), &buf, 1, NULL), 0);
            CHECK_EQ(
                evl_read_start(net_stream(&twins->ends[i]), lent ? NULL : net_alloc, twins_on_read),
                0);
        }
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(twins->reads, 1);
        CHECK_EQ(twins->closes, 2);
        for (size_t i = 0; i < sizeof(twins->ends); i++)
            CHECK_EQ(((unsigned char *)twins->ends)[i], 0xA5);
        net_close(&net);
        free(twins);
    }
}

/* Closing with writes and a shutdown queued: their callbacks, in order, then the close callback. */
typedef struct {
    evl_tcp_t tcp;
    evl_write_t writes[4];
    evl_shutdown_t shut;
    net_log_t log;
} queue_t;

static void queue_on_write(evl_write_t *req, int status) {
    queue_t *queue = (queue_t *)req->data;
    size_t index = (size_t)(req - queue->writes);
    net_note(&queue->log, (char)((status == 0 ? 'a' : '0') + (int)index));
    CHECK(status == 0 || status == EVL_ECANCELED);
    CHECK_PTR(req->handle, &queue->tcp);
}

static void queue_on_shutdown(evl_shutdown_t *req, int status) {
    CHECK_EQ(status, EVL_ECANCELED);
    net_note(&((queue_t *)req->data)->log, 's');
}

static void queue_on_close(evl_handle_t *handle) {
    queue_t *queue = (queue_t *)handle->data;
    net_note(&queue->log, 'X');
    CHECK_EQ(queue->tcp.write_queue_size, 0);
}

static void close_with_queue(int how) {
    net_t net;
    queue_t queue;
    net_open(&net);
    memset(&queue, 0, sizeof(queue));
    evl_os_sock_t peer = net_half_tight(&net, &queue.tcp);
    queue.tcp.data = &queue;
    /* The first is done and only its callback is due; the others wait for room. */
    for (size_t i = 0; i < NET_COUNT(queue.writes); i++) {
        evl_buf_t buf = net_buf(0, i == 0 ? 10 : 30000);
        queue.writes[i].data = &queue;
        CHECK_EQ(evl_write(&queue.writes[i], net_stream(&queue.tcp), &buf, 1, queue_on_write), 0);
    }
    queue.shut.data = &queue;
    CHECK_EQ(evl_shutdown(&queue.shut, net_stream(&queue.tcp), queue_on_shutdown), 0);
    if (how == 2) { /* with the loop and everything on it; there is no close callback then */
        CHECK_EQ(evl_loop_destroy(&net.loop, 1000), 0);
        CHECK_STR(queue.log.text, "a123s");
        os_close(peer);
        CHECK_EQ(test_open_fds(), net.fds);
        return;
    }
    evl_close(net_handle(&queue.tcp), queue_on_close);
    evl_close(net_handle(&queue.tcp), NULL); /* a second call does nothing */
    CHECK_EQ(queue.log.length, 0);
    CHECK_EQ(evl_is_closing(net_handle(&queue.tcp)), 1);
    CHECK_EQ(evl_is_active(net_handle(&queue.tcp)), 0);
    CHECK_EQ(evl_is_readable(net_stream(&queue.tcp)), 0);
    CHECK_EQ(evl_is_writable(net_stream(&queue.tcp)), 0);
    for (size_t length = 0; how == 1 && queue.log.length < 6; length++) {
        CHECK_LE(queue.log.length, length); /* a slice is one callback at most */
        evl_run_for(&net.loop, 1);
    }
    net_finish(&net.loop);
    CHECK_STR(queue.log.text, "a123sX");
    os_close(peer);
    net_close(&net);
    CHECK_STR(queue.log.text, "a123sX");
}

TEST(stream_close_with_queued_writes) {
    close_with_queue(0);
}

TEST(stream_close_with_queued_writes_in_slices) {
    close_with_queue(1);
}

TEST(stream_destroy_with_queued_writes) {
    close_with_queue(2);
}

/* A close callback that is NULL, and a descriptor that is free as soon as evl_close returns. */
TEST(stream_close_frees_the_descriptor) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    evl_os_sock_t fd = net_fileno(&tcp);
    evl_close(net_handle(&tcp), NULL);
    CHECK_EQ(os_is_open(fd), 0);
    CHECK_EQ(evl_loop_close(&net.loop), EVL_EBUSY);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_is_closing(net_handle(&tcp)), 1);
    os_close(peer);
    net_close(&net);
}

/* In one batch of events the first callback closes the second connection and makes a new one, which
 * gets the number of its descriptor: what is left in the batch is not the new one's. */
typedef struct {
    evl_tcp_t tcp[2];
    evl_tcp_t fresh;
    net_sink_t fresh_sink;
    evl_os_sock_t fresh_peer; /* -1: not made yet */
    evl_os_sock_t old_fd[2];
} reuse_t;

static void reuse_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    reuse_t *reuse = (reuse_t *)stream->data;
    int other = stream == (evl_stream_t *)&reuse->tcp[0] ? 1 : 0;
    evl_os_sock_t fds[2];
    (void)buf;
    if (nread == 0)
        return;
    CHECK(reuse->fresh_peer == OS_NO_SOCK);
    CHECK_EQ(nread, 10);
    evl_close((evl_handle_t *)&reuse->tcp[other], NULL);
    net_raw_pair_at(fds, reuse->old_fd[other]);
    reuse->fresh_peer = fds[1];
    CHECK_EQ(evl_tcp_init(stream->loop, &reuse->fresh), 0);
    CHECK_EQ(evl_tcp_open(&reuse->fresh, fds[0]), 0);
    reuse->fresh.data = &reuse->fresh_sink;
    CHECK_EQ(evl_read_start((evl_stream_t *)&reuse->fresh, NULL, net_on_read), 0);
}

TEST(stream_reused_descriptor_in_a_batch) {
    net_t net;
    reuse_t reuse;
    evl_os_sock_t peers[2];
    net_open(&net);
    memset(&reuse, 0, sizeof(reuse));
    reuse.fresh_peer = OS_NO_SOCK;
    for (int i = 0; i < 2; i++) {
        peers[i] = net_half(&net, &reuse.tcp[i]);
        reuse.tcp[i].data = &reuse;
        reuse.old_fd[i] = net_fileno(&reuse.tcp[i]);
        CHECK_EQ(evl_read_start(net_stream(&reuse.tcp[i]), net_alloc, reuse_on_read), 0);
    }
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_write(peers[0], net_bytes(0), 10);
    net_raw_write(peers[1], net_bytes(0), 10);
    net_raw_await(reuse.old_fd[0]);
    net_raw_await(reuse.old_fd[1]);
    NET_UNTIL(&net.loop, reuse.fresh_peer != OS_NO_SOCK);
    CHECK_LE(net_run_ms(&net.loop, 10), 8);
    CHECK_EQ(reuse.fresh_sink.reads + reuse.fresh_sink.ends, 0);
    net_raw_write(reuse.fresh_peer, net_bytes(0), 33);
    NET_UNTIL(&net.loop, reuse.fresh_sink.bytes == 33);
    os_close(reuse.fresh_peer);
    os_close(peers[0]);
    os_close(peers[1]);
    net_close(&net);
}

/* The socket lives on in a duplicate: what happens on it is no longer the loop's business. */
TEST(stream_close_with_a_duplicate_alive) {
    net_t net;
    evl_tcp_t tcp, fresh;
    net_sink_t sink;
    char bytes[100];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    evl_os_sock_t fd = net_fileno(&tcp);
    tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    NET_UNTIL(&net.loop, sink.bytes == 100);
    evl_os_sock_t twin = os_dup(fd);
    evl_close(net_handle(&tcp), NULL);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    evl_os_sock_t fds[2];
    memset(&sink, 0, sizeof(sink));
    net_raw_pair_at(fds, fd);
    CHECK_EQ(evl_tcp_init(&net.loop, &fresh), 0);
    CHECK_EQ(evl_tcp_open(&fresh, fds[0]), 0);
    fresh.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&fresh), NULL, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_EQ(sink.reads + sink.ends, 0);
    net_raw_read(twin, bytes, sizeof(bytes));
    net_raw_write(fds[1], net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    os_close(twin);
    os_close(peer);
    os_close(fds[1]);
    net_close(&net);
}

static void on_connection_take(evl_stream_t *server, int status) {
    evl_tcp_t *guest = (evl_tcp_t *)server->data;
    CHECK_EQ(status, 0);
    CHECK_EQ(evl_tcp_init(server->loop, guest), 0);
    CHECK_EQ(evl_accept(server, net_stream(guest)), 0);
    evl_close((evl_handle_t *)server, NULL);
}

/* The same with a socket of the library's own; then the duplicate, which the poller may still know,
 * comes back under the old number. */
TEST(stream_close_accepted_with_a_duplicate_alive) {
    net_t net;
    evl_tcp_t server, guest, fresh;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    int port = net_listen(&net, &server, 1, on_connection_take);
    server.data = &guest;
    evl_os_sock_t peer = net_raw_connect(port);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    evl_os_sock_t fd = net_fileno(&guest);
    guest.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&guest), NULL, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    NET_UNTIL(&net.loop, sink.bytes == 100);
    evl_os_sock_t twin = os_dup(fd);
    evl_close(net_handle(&guest), NULL);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_write(peer, net_bytes(100), 100);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_EQ(sink.bytes, 100);
    os_dup_at(twin, fd);
    os_close(twin);
    CHECK_EQ(evl_tcp_init(&net.loop, &fresh), 0);
    CHECK_EQ(evl_tcp_open(&fresh, fd), 0);
    fresh.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&fresh), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 200);
    net_raw_write(peer, net_bytes(200), 100);
    NET_UNTIL(&net.loop, sink.bytes == 300);
    os_close(peer);
    net_close(&net);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

static void on_write_no_memory(evl_write_t *req, int status) {
    CHECK_EQ(status, EVL_ENOMEM);
    (*(int *)req->data)++;
}

/* The kernel takes a part and then refuses to tell when it has room for the rest: the write fails,
 * and nothing may follow behind the gap. */
TEST(stream_write_without_registration) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t reqs[2];
    int failed = 0;
    if (os_calls()->watch == NULL)
        SKIP("this backend registers nothing with the kernel");
    net_open(&net);
    evl_os_sock_t peer = net_half_tight(&net, &tcp);
    test_fault_set(os_calls()->watch, 1, 1, ENOMEM);
    evl_buf_t buf = net_buf(0, 60000);
    reqs[0].data = &failed;
    CHECK_EQ(evl_write(&reqs[0], net_stream(&tcp), &buf, 1, on_write_no_memory), 0);
    CHECK_EQ(test_fault_hits(os_calls()->watch), 1);
    test_fault_clear();
    CHECK_EQ(evl_write(&reqs[1], net_stream(&tcp), &buf, 1, on_write_never), EVL_EPIPE);
    NET_UNTIL(&net.loop, failed == 1);
    CHECK_EQ(tcp.write_queue_size, 0);
    CHECK_EQ(evl_is_writable(net_stream(&tcp)), 0);
    os_close(peer);
    net_close(&net);
}

/* Reading that cannot be registered is refused, and the next try works. */
TEST(stream_read_without_registration) {
    net_t net;
    evl_tcp_t tcp;
    net_sink_t sink;
    if (os_calls()->watch == NULL)
        SKIP("this backend registers nothing with the kernel");
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &sink;
    test_fault_set(os_calls()->watch, 1, 1, ENOMEM);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, on_read_never), EVL_ENOMEM);
    test_fault_clear();
    CHECK_EQ(evl_is_active(net_handle(&tcp)), 0);
    net_raw_write(peer, net_bytes(0), 10);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, net_on_read), 0);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    os_close(peer);
    net_close(&net);
}

/* Interrupted and shortened calls: every byte still comes once. */
TEST(stream_echo_with_short_and_interrupted_calls) {
    static const size_t shorts[] = {1, 3, 100, 4096};
    for (size_t i = 0; i < NET_COUNT(shorts); i++) {
        test_short_set("send", shorts[i]);
        test_short_set("recv", shorts[NET_COUNT(shorts) - 1 - i]);
        echo(5000, i % 2 ? net_alloc : NULL, i % 2 ? NULL : net_alloc_small);
        test_fault_clear();
        test_fault_set("send", 1, 4, EINTR);
        test_fault_set("recv", 2, 4, EINTR);
        echo(100000, NULL, net_alloc);
        CHECK_EQ(test_fault_hits("send"), 4);
        CHECK_EQ(test_fault_hits("recv"), 4);
        test_fault_clear();
    }
}

/* The system is short of buffers for a while: no event will tell when that is over. */
TEST(stream_write_without_buffers) {
    net_t net;
    evl_tcp_t tcp;
    evl_write_t req;
    int written = 0;
    size_t got = 0;
    net_open(&net);
    evl_os_sock_t peer = net_half(&net, &tcp);
    test_fault_set("send", 1, 5, ENOBUFS);
    evl_buf_t buf = net_buf(0, 1000);
    CHECK_EQ(evl_try_write(net_stream(&tcp), &buf, 1), EVL_EAGAIN);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&tcp), &buf, 1, on_write_flag), 0);
    CHECK_EQ(tcp.write_queue_size, 1000);
    NET_UNTIL(&net.loop, written);
    CHECK_EQ(test_fault_hits("send"), 5);
    test_fault_clear();
    CHECK_EQ(net_raw_drain(peer, &got), 0);
    CHECK_EQ(got, 1000);
    os_close(peer);
    net_close(&net);
}

/* ---- Slices ---------------------------------------------------------------------------------- */

typedef struct {
    evl_tcp_t tcp[4];
    evl_write_t reqs[4][5];
    int callbacks;
} sliced_t;

static void sliced_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)nread;
    (void)buf;
    os_next_tick();
    ((sliced_t *)stream->data)->callbacks++;
}

static void sliced_on_write(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    os_next_tick();
    ((sliced_t *)req->data)->callbacks++;
}

/* A budget that is spent at once: one callback a call, whatever is ready, and in the end all. */
TEST(stream_slices_hold_one_callback) {
    net_t net;
    sliced_t sliced;
    evl_os_sock_t peers[4];
    net_open(&net);
    memset(&sliced, 0, sizeof(sliced));
    evl_buf_t buf = net_buf(0, 10);
    for (int i = 0; i < 4; i++) {
        peers[i] = net_half(&net, &sliced.tcp[i]);
        sliced.tcp[i].data = &sliced;
        net_raw_write(peers[i], net_bytes(0), 70);
        for (int w = 0; w < 5; w++) {
            sliced.reqs[i][w].data = &sliced;
            CHECK_EQ(
                evl_write(&sliced.reqs[i][w], net_stream(&sliced.tcp[i]), &buf, 1, sliced_on_write),
                0);
        }
        CHECK_EQ(evl_read_start(net_stream(&sliced.tcp[i]), net_alloc_small, sliced_on_read), 0);
    }
    *net_waiting() = "60 slices with a callback each\n";
    while (sliced.callbacks < 4 * (5 + 10)) {
        int before = sliced.callbacks;
        CHECK_NE(evl_run_for(&net.loop, 1), 0);
        CHECK_LE(sliced.callbacks, before + 1);
    }
    for (int i = 0; i < 4; i++)
        os_close(peers[i]);
    net_close(&net);
}

/* ---- No allocation once warm ----------------------------------------------------------------- */

typedef struct {
    evl_tcp_t near_end, far_end;
    evl_write_t near_req, far_req;
    char near_bytes[64], far_bytes[64];
    long rounds;
    long wanted;
} rally_t;

static void rally_on_far_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    rally_t *rally = (rally_t *)stream->data;
    if (nread <= 0)
        return;
    CHECK_EQ(nread, sizeof(rally->far_bytes));
    memcpy(rally->far_bytes, buf->base, sizeof(rally->far_bytes));
    evl_buf_t back = evl_buf_init(rally->far_bytes, sizeof(rally->far_bytes));
    CHECK_EQ(evl_write(&rally->far_req, stream, &back, 1, NULL), 0);
}

static void rally_serve(rally_t *rally) {
    memset(rally->near_bytes, (int)(rally->rounds & 0xff), sizeof(rally->near_bytes));
    evl_buf_t buf[4];
    for (unsigned i = 0; i < 4; i++)
        buf[i] = evl_buf_init(rally->near_bytes + 16 * i, 16);
    CHECK_EQ(evl_write(&rally->near_req, net_stream(&rally->near_end), buf, 4, NULL), 0);
}

static void rally_on_near_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    rally_t *rally = (rally_t *)stream->data;
    if (nread <= 0)
        return;
    CHECK_EQ(nread, sizeof(rally->near_bytes));
    CHECK_MEM(buf->base, rally->near_bytes, nread);
    if (++rally->rounds < rally->wanted)
        rally_serve(rally);
}

TEST(stream_echo_allocates_nothing) {
    net_t net;
    rally_t rally;
    net_open(&net);
    memset(&rally, 0, sizeof(rally));
    net_pair(&net, &rally.near_end, &rally.far_end);
    rally.near_end.data = rally.far_end.data = &rally;
    CHECK_EQ(evl_read_start(net_stream(&rally.near_end), NULL, rally_on_near_read), 0);
    CHECK_EQ(evl_read_start(net_stream(&rally.far_end), NULL, rally_on_far_read), 0);
    rally.wanted = 100;
    rally_serve(&rally);
    NET_UNTIL(&net.loop, rally.rounds == rally.wanted);
    size_t calls = test_alloc_calls();
    rally.wanted = 1100;
    rally_serve(&rally);
    NET_UNTIL(&net.loop, rally.rounds == rally.wanted);
    CHECK_EQ(test_alloc_calls(), calls);
    net_close(&net);
}

/* A round trip on a kept-open connection costs one read, one write and one wait, and the poller is
 * told of the descriptor once. */
static void thrifty_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    rally_t *rally = (rally_t *)stream->data;
    if (nread > 0)
        rally->rounds++;
    rally_on_far_read(stream, nread, buf);
}

TEST(stream_echo_costs_three_calls) {
    enum { ROUNDS = 500 };
    const char *const names[] = {"recv", "send", os_calls()->wait, os_calls()->watch};
    for (int lent = 0; lent < 2; lent++) {
        net_t net;
        rally_t rally;
        char bytes[sizeof(rally.far_bytes)];
        net_open(&net);
        memset(&rally, 0, sizeof(rally));
        evl_os_sock_t peer = net_half(&net, &rally.far_end);
        rally.far_end.data = &rally;
        CHECK_EQ(
            evl_read_start(net_stream(&rally.far_end), lent ? NULL : net_alloc, thrifty_on_read),
            0);
        for (long round = 1; round <= ROUNDS; round++) {
            if (round == 2) /* the first may do what is done once */
                for (size_t i = 0; i < NET_COUNT(names); i++)
                    if (names[i] != NULL)
                        test_fault_set(names[i], 0, 0, 0);
            net_raw_write(peer, net_bytes(0), sizeof(bytes));
            NET_UNTIL(&net.loop, rally.rounds == round);
            net_raw_read(peer, bytes, sizeof(bytes));
        }
        CHECK_EQ(test_fault_calls("recv"), ROUNDS - 1);
        CHECK_EQ(test_fault_calls("send"), ROUNDS - 1);
        CHECK_LE(test_fault_calls(os_calls()->wait), ROUNDS - 1);
        if (os_calls()->watch != NULL)
            CHECK_LE(test_fault_calls(os_calls()->watch), os_calls()->once ? ROUNDS - 1 : 0);
        test_fault_clear();
        os_close(peer);
        net_close(&net);
    }
}

#endif /* !EVLOOP_NO_NET */
