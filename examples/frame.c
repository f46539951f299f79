/* cc -O2 -o frame examples/frame.c -pthread */

/* frame - the loop inside a game that draws 60 frames a second.
 *
 * Each frame has 16.7 ms. The game takes what it needs to simulate and draw, and gives the loop a
 * slice of 2 ms: evl_run_for runs what is due, never sleeps, and starts no further callback once
 * the slice is used up; what is left goes on in the next frame. So a flood of work makes the work
 * take more frames, not the frames take longer.
 *
 * Two seconds: in the first the loop has little to do, in the second more than fits. The figures
 * are of the wall clock: on a busy machine they contain what other programs took. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

#define SECONDS           2
#define FRAMES_PER_SECOND 60
#define FRAME_NS          ((uint64_t)1000000000 / FRAMES_PER_SECOND)
#define SLICE_NS          ((uint64_t)2000000)
#define GAME_NS           ((uint64_t)4000000) /* simulate and draw */
#define CHUNK_NS          ((uint64_t)100000)  /* one piece of the background job */

static unsigned long callbacks;

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

/* Stands for work: keeps the processor busy. */
static void be_busy(uint64_t ns) {
    uint64_t end = evl_hrtime() + ns;
    while (evl_hrtime() < end)
        continue;
}

/* ---- What the loop has to do ---- */

/* All the time: something short every 50 ms, say a message from the server. */
static void on_heartbeat(evl_timer_t *timer) {
    (void)timer;
    callbacks++;
}

/* In the second second: a job that never ends, say path finding, cut into pieces. Each piece asks
 * for the next one, so one is always due. */
static void on_chunk(evl_loop_t *loop, void *arg) {
    callbacks++;
    be_busy(CHUNK_NS);
    check(evl_set_immediate(loop, on_chunk, arg, NULL), "evl_set_immediate");
}

/* ---- The game ---- */

struct figures {
    uint64_t used_ns;        /* by the slices */
    uint64_t longest_ns;     /* slice */
    uint64_t latest_ns;      /* how much too late a frame has begun */
    unsigned long callbacks; /* made in the slices */
    int exhausted;           /* slices that were used up with work left */
};

/* Waits for the next refresh of the screen: sleeps the whole milliseconds and spins the rest. */
static void wait_until(uint64_t due) {
    uint64_t now = evl_hrtime();
    if (now + 2000000 < due)
        evl_sleep((unsigned)((due - now) / 1000000 - 1));
    while (evl_hrtime() < due)
        continue;
}

static void run_slice(evl_loop_t *loop, struct figures *figures) {
    unsigned long callbacks_before = callbacks;
    uint64_t start = evl_hrtime(), used;

    check(evl_run_for(loop, SLICE_NS), "evl_run_for");

    used = evl_hrtime() - start;
    figures->used_ns += used;
    figures->callbacks += callbacks - callbacks_before;
    if (figures->longest_ns < used)
        figures->longest_ns = used;
    if (used >= SLICE_NS)
        figures->exhausted++;
}

static void print(int second, const struct figures *figures) {
    const double budget_ns = (double)SLICE_NS * FRAMES_PER_SECOND;
    printf("second %d: %5lu callbacks, %5.1f %% of the budget used, slice %.3f ms on average and "
           "%.3f ms at most,\n          %d of %d used up, frames at most %.3f ms late\n",
           second, figures->callbacks, 100.0 * (double)figures->used_ns / budget_ns,
           (double)figures->used_ns / FRAMES_PER_SECOND / 1e6, (double)figures->longest_ns / 1e6,
           figures->exhausted, FRAMES_PER_SECOND, (double)figures->latest_ns / 1e6);
    fflush(stdout);
}

int main(void) {
    evl_loop_t loop;
    evl_timer_t heartbeat;
    uint64_t due;
    int second, frame;

    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_timer_init(&loop, &heartbeat), "evl_timer_init");
    check(evl_timer_start(&heartbeat, on_heartbeat, 50, 50), "evl_timer_start");
    printf("frame %.2f ms: the game takes %.2f ms of it, the loop gets a slice of %.2f ms\n",
           (double)FRAME_NS / 1e6, (double)GAME_NS / 1e6, (double)SLICE_NS / 1e6);

    due = evl_hrtime();
    for (second = 1; second <= SECONDS; second++) {
        struct figures figures = {0, 0, 0, 0, 0};
        if (second == 2)
            check(evl_set_immediate(&loop, on_chunk, NULL, NULL), "evl_set_immediate");
        for (frame = 0; frame < FRAMES_PER_SECOND; frame++) {
            uint64_t late = evl_hrtime() - due;
            if (figures.latest_ns < late)
                figures.latest_ns = late;
            be_busy(GAME_NS);
            run_slice(&loop, &figures);
            due += FRAME_NS;
            wait_until(due);
        }
        print(second, &figures);
    }

    /* The job that never ends is forgotten, the timer closed. */
    check(evl_loop_destroy(&loop, 1000), "evl_loop_destroy");
    return EXIT_SUCCESS;
}
