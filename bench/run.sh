#!/bin/sh
# Runs the benchmarks: the libraries take turns, round after round, and the table shows medians.
#
#     sh bench/run.sh            (or `make bench`)
#
# From the environment: ONLY=timers,echo (all), CASE=text (all cases), ROUNDS=n (7), SCALE=f (1),
# FORMAT=table|csv, LIBRARIES="evloop libuv" (all found), LIBUV_DIR=path of another libuv: its source
# tree with libuv.a in it, in .libs or in build; CC (cc).

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
ROUNDS=${ROUNDS:-7}
SCALE=${SCALE:-1}
FORMAT=${FORMAT:-table}
CASE=${CASE:-}
out=build/bench
mkdir -p $out

die() {
    echo "bench: $*" >&2
    exit 1
}

# ---- Libraries ----

# The first libuv.a of a build of libuv's, by its directory.
libuv_archive() {
    for archive in "$LIBUV_DIR"/libuv.a "$LIBUV_DIR"/.libs/libuv.a "$LIBUV_DIR"/build/libuv.a \
        "$LIBUV_DIR"/out/libuv.a; do
        [ -f "$archive" ] && echo "$archive" && return
    done
    return 1
}

# Compiler flags of a library, before and after the source; fails when it is not there.
flags_of() { # LIBRARY cflags|libs
    case $1-$2 in
    evloop-cflags) echo "-DBENCH_EVLOOP" ;;
    bare-cflags) echo "-DBENCH_BARE" ;;
    evloop-libs | bare-libs) echo "-pthread" ;;
    libuv-cflags)
        if [ -n "${LIBUV_DIR:-}" ]; then
            libuv_archive >/dev/null && [ -f "$LIBUV_DIR/include/uv.h" ] && echo "-DBENCH_LIBUV -I$LIBUV_DIR/include"
        else
            flags=$(pkg-config --cflags libuv 2>/dev/null) && echo "-DBENCH_LIBUV $flags"
        fi
        ;;
    libuv-libs)
        if [ -n "${LIBUV_DIR:-}" ]; then
            echo "$(libuv_archive) -pthread -ldl -lrt"
        else
            pkg-config --libs libuv
        fi
        ;;
    # libev has no file for pkg-config.
    libev-cflags)
        echo '#include <ev.h>' | $CC -E -x c - >/dev/null 2>&1 && echo "-DBENCH_LIBEV -fno-strict-aliasing"
        ;;
    libev-libs) echo "-lev -lm -pthread" ;;
    libevent-cflags)
        flags=$(pkg-config --cflags libevent_core libevent_pthreads 2>/dev/null) && echo "-DBENCH_LIBEVENT $flags"
        ;;
    libevent-libs) echo "$(pkg-config --libs libevent_core libevent_pthreads) -pthread" ;;
    esac
}

available=
for library in ${LIBRARIES:-evloop libuv libev libevent bare}; do
    flags_of $library cflags >/dev/null && available="$available $library"
done

# ---- Building ----

build() { # QUESTION LIBRARY
    program=$out/$1-$2
    command="$CC -std=gnu99 -O2 -g -Wall -Wextra $(flags_of $2 cflags) -o $program bench/$1.c $(flags_of $2 libs)"
    [ "$(cat $program.command 2>/dev/null)" = "$command" ] && [ $program -nt bench/$1.c ] &&
        [ $program -nt evloop.h ] && [ -z "$(find bench -name '*.h' -newer $program)" ] && return
    rm -f $program.command
    $command || die "$1 does not build for $2"
    echo "$command" >$program.command
}

libraries_of() { # QUESTION
    for library in $(sed -n 's/^.*Libraries: //p' bench/$1.c | head -n 1); do
        case " $available " in *" $library "*) echo $library ;; esac
    done
}

# ---- Running ----

questions=$(for file in bench/*.c; do
    grep -q 'Libraries: ' $file && basename $file .c
done)
[ -z "${ONLY:-}" ] || questions=$(echo "$ONLY" | tr ',' ' ')

if grep -q '^int main' bench/load.c 2>/dev/null; then
    [ $out/load -nt bench/load.c ] || $CC -std=gnu99 -O2 -g -Wall -Wextra -o $out/load bench/load.c -pthread ||
        die "bench/load.c does not build"
fi
for question in $questions; do
    [ -f bench/$question.c ] || die "there is no bench/$question.c"
    for library in $(libraries_of $question); do
        build $question $library
    done
done

results=$out/results.tsv
: >$results
for question in $questions; do
    round=0 # the first one warms up
    while [ $round -le "$ROUNDS" ]; do
        for library in $(libraries_of $question); do
            [ -t 2 ] && printf '\r%s %s %s  \033[K' "$question" "$round/$ROUNDS" "$library" >&2
            $out/$question-$library --scale "$SCALE" ${CASE:+--case "$CASE"} >$out/round.tsv ||
                die "$question of $library failed"
            [ $round -eq 0 ] || sed "s/^/$question	$library	$round	/" $out/round.tsv >>$results
        done
        round=$((round + 1))
    done
done
[ -t 2 ] && printf '\r\033[K' >&2

# ---- Printing ----

versions() {
    echo "system: $(uname -srm), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $(getconf _NPROCESSORS_ONLN) cores"
    echo "compiler: $($CC --version | head -n 1), -O2"
    for library in $available; do
        for program in $out/*-$library; do
            [ -x "$program" ] && "$program" --version && break
        done
    done
    echo "rounds: $ROUNDS, after one to warm up, the libraries in turns"
}

[ "$FORMAT" = csv ] || versions
awk -v format="$FORMAT" -f bench/table.awk $results
