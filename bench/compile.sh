#!/bin/sh
# How long does the compiler take? All of evloop.h's implementation in one file, and libuv's sources one by
# one: user and system time of the compiler in seconds, at -O2, one process at a time.
#
#     LIBUV_DIR=path sh bench/compile.sh           (run.sh does it, too)
#
# From the environment: CC (cc), LIBUV_DIR (without it there is only evloop.h), LIBRARIES_FOUND ("evloop
# libuv"), ROUNDS (at most 3). Prints lines "question library round case unit value", with tabs.

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
LIBUV_DIR=${LIBUV_DIR:-}
ROUNDS=${ROUNDS:-3}
[ "$ROUNDS" -le 3 ] || ROUNDS=3
out=build/bench/compile
mkdir -p $out
. bench/libuv.sh

compile_evloop() {
    echo '#include "evloop.h"' | $CC -std=gnu99 -O2 -DEVLOOP_IMPLEMENTATION -I. -x c -c - -o $out/evloop.o
}

compile_libuv() {
    libuv_compile $out/objects -O2
}

# The time of all children so far, into a file: in a subshell it would begin anew.
measure() { # LIBRARY ROUND
    times >$out/before
    compile_$1 || exit 1
    times >$out/after
    cat $out/before $out/after | awk -v library=$1 -v round=$2 '
        function seconds(text,    parts) {
            split(text, parts, "m")
            return parts[1] * 60 + parts[2]
        }
        NR == 2 { before = seconds($1) + seconds($2) }
        NR == 4 { printf "compile\t%s\t%d\twhole library\ts\t%.3f\n", library, round, seconds($1) + seconds($2) - before }'
}

libraries=
for library in ${LIBRARIES_FOUND:-evloop libuv}; do
    case $library in
    evloop) libraries="$libraries evloop" ;;
    libuv)
        if [ -n "$LIBUV_DIR" ]; then
            libraries="$libraries libuv"
        else
            echo "compile: libuv is left out: LIBUV_DIR does not say where its sources are" >&2
        fi
        ;;
    esac
done

round=1
while [ "$round" -le "$ROUNDS" ]; do
    for library in $libraries; do
        measure $library $round
    done
    round=$((round + 1))
done
