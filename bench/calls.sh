#!/bin/sh
# Counts what the echo server needs for a request: system calls (with strace) and instructions in user
# mode (with callgrind), of the whole process.
#
#     sh bench/calls.sh          after run.sh has built the programs; `make bench` runs it
#
# Programs: echo
#
# Each number is a slope: the server runs twice, for few requests and for many, and what more is needed for
# more of them is divided by how many more they are. What starting and ending needs falls out.
#
# The load is a process of its own, which the tools don't follow. They slow the server down but not the
# load, so that of 50 connections nearly all are ready in each iteration: that is what it costs under
# load. With 1 connection each iteration serves one request.
#
# From the environment: LIBRARIES_FOUND="evloop libuv" (all); those that are not built are left out. SCALE (1).

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/bench
SCALE=${SCALE:-1}
few=$(awk -v scale="$SCALE" 'BEGIN { print 0.1 * scale }')
many=$(awk -v scale="$SCALE" 'BEGIN { print 0.3 * scale }')
requests=$(sed -n 's/^enum { REQUESTS = \([0-9]*\) };$/\1/p' bench/echo.c)
libraries=$(for library in ${LIBRARIES_FOUND:-evloop libuv libev libevent bare}; do
    [ -x $out/echo-$library ] && echo $library
done)

# Each prints how many of them one run needs.
calls_of() { # PROGRAM CASE SCALE
    strace -c -o $out/calls.txt "$1" --case "$2" --scale "$3" >/dev/null || return 1
    awk '$NF == "total" { print $4 }' $out/calls.txt
}

instructions_of() { # PROGRAM CASE SCALE
    valgrind --tool=callgrind --callgrind-out-file=$out/calls.txt "$1" --case "$2" --scale "$3" \
        >/dev/null 2>$out/calls.log || { cat $out/calls.log >&2 && return 1; }
    sed -n 's/^totals: //p' $out/calls.txt
}

count() { # TOOL UNIT FUNCTION
    if ! command -v "$1" >/dev/null; then
        echo "calls.sh: no $1, so no $2 are counted" >&2
        return
    fi
    for connections in "1 connection" "50 connections"; do
        for library in $libraries; do
            first=$($3 $out/echo-$library "$connections" $few) &&
                second=$($3 $out/echo-$library "$connections" $many) || exit 1
            echo "$first $second" | awk -v more="$requests" -v few=$few -v many=$many \
                -v line="echo	$library	1	$connections	$2" \
                '{ printf "%s\t%.4g\n", line, ($2 - $1) / (more * (many - few)) }'
        done
    done
}

count strace calls calls_of
count valgrind instructions instructions_of
