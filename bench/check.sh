#!/bin/sh
# Counts the instructions that bench/check.c takes for each operation, under callgrind, and compares them
# with bench/expected.txt: more than 5 % over it is a failure. Unlike times, the counts are the same
# in each run, however busy the machine is.
#
#     sh bench/check.sh                  (or `make bench-check`)
#     sh bench/check.sh --self-test      the comparison must find what is wrong with altered numbers
#
# From the environment: UPDATE=1 writes bench/expected.txt anew; PROFILE=text also lists, for the cases
# with that in their names, the functions that take the most; CC (cc).
#
# Other compilers and C libraries make other code: the first line of bench/expected.txt says whose the
# numbers are, and with any other the counts are printed and not compared.

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
expected=bench/expected.txt
out=build/bench/check
counts=$out/counts.tsv
most_functions=25 # of a profile

die() {
    echo "bench-check: $*" >&2
    exit 1
}

# ---- Counting ----

# The compiler, what it compiles for, and the C library.
toolchain() {
    echo '__clang_major__ __clang_minor__ __clang_patchlevel__ __GNUC__ __GNUC_MINOR__ __GNUC_PATCHLEVEL__' |
        $CC -E -P -x c - | awk '
            NF != 6 { next }
            $1 ~ /^[0-9]/ { print "clang " $1 "." $2 "." $3 }
            $1 !~ /^[0-9]/ { print "gcc " $4 "." $5 "." $6 }'
    $CC -dumpmachine
    getconf GNU_LIBC_VERSION 2>/dev/null || echo 'another libc'
}

# Each measured function ends with a call of case_ends, where callgrind writes a file: part.1, part.2, …
# The environment is the same for everyone, for the stack begins behind it.
run_callgrind() {
    rm -f $out/part*
    env -i PATH="$PATH" EVLOOP_BACKEND=epoll \
        valgrind -q --tool=callgrind --callgrind-out-file=$out/part --collect-atstart=no \
        --toggle-collect='measured_*' --toggle-collect='unmeasured_*' --dump-before=case_ends \
        $out/check >$out/cases.tsv 2>$out/valgrind.log
}

# Writes lines "case instructions-per-operation file operations", separated by tabs.
count() {
    mkdir -p $out
    $CC -std=gnu99 -O2 -g -Wall -Wextra -Wl,-z,now -o $out/check bench/check.c -pthread ||
        die "bench/check.c does not build"
    run_callgrind || { cat $out/valgrind.log >&2; die "bench/check.c does not run under callgrind"; }
    part=0
    while IFS='	' read -r name operations; do
        part=$((part + 1))
        [ -f $out/part.$part ] || die "callgrind has not counted '$name'"
        awk -v name="$name" -v operations="$operations" -v file=$out/part.$part '
            /^totals: / { printf "%s\t%.2f\t%s\t%s\n", name, $2 / operations, file, operations }' $out/part.$part
    done <$out/cases.tsv >$counts
    [ -s $counts ] && [ ! -f $out/part.$((part + 1)) ] || die "callgrind has counted more than the cases"
}

write_expected() {
    echo "# $1"
    cut -f 1,2 $counts
}

# ---- Comparing ----

# Prints a line for each case of both files, and a closing line; fails if a case has.
compare() { # EXPECTED COUNTS TOOLCHAIN
    awk -F '\t' -v toolchain="$3" '
        function line(ok, text) {
            if (ok)
                passed++
            else
                failed++
            printf "%s %d - %s\n", ok ? "ok" : "not ok", passed + failed + skipped, text
        }

        function report(name, count, wanted,    text) {
            text = sprintf("%s: %.1f (expected %.1f)", name, count, wanted)
            if (count > wanted * 1.05)
                line(0, sprintf("%s, %.1f %% more", text, 100 * (count / wanted - 1)))
            else if (count < wanted * 0.95)
                line(1, sprintf("%s, %.1f %% less: lower the expectation", text, 100 * (1 - count / wanted)))
            else
                line(1, text)
        }

        FNR == 1 { file++ }
        file == 1 && FNR == 1 {
            comparable = $0 == "# " toolchain
            if (!comparable)
                print "# not compared: the expectations are of " substr($0, 3) ", this is " toolchain
            next
        }
        file == 1 {
            wanted[$1] = $2
            order[++cases] = $1
            next
        }
        { counted[$1] = 1 }
        !comparable {
            skipped++
            printf "ok %d - %s: %.1f # SKIP not compared\n", passed + failed + skipped, $1, $2
            next
        }
        !($1 in wanted) {
            line(0, sprintf("%s: %.1f, and no expectation", $1, $2))
            next
        }
        { report($1, $2, wanted[$1]) }

        END {
            for (i = 1; i <= cases; i++)
                if (comparable && !(order[i] in counted))
                    line(0, order[i] ": expected, and not counted")
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
            exit failed > 0 || passed + skipped == 0
        }' "$1" "$2"
}

# ---- Profiles ----

print_profiles() { # TEXT
    while IFS='	' read -r name count file operations; do
        case $name in
        *"$1"*)
            printf '\n# %s: %s, of which in each function\n' "$name" "$count"
            awk -v operations="$operations" -f bench/profile.awk "$file" | sort -rn | sed ${most_functions}q
            ;;
        esac
    done <$counts
}

# ---- The self-test ----

passed=0
failed=0

report() { # NAME PROBLEMS
    if [ -z "$2" ]; then
        passed=$((passed + 1))
        echo "ok $((passed + failed)) - $1"
    else
        failed=$((failed + 1))
        echo "not ok $((passed + failed)) - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
    fi
}

# Compares the counts with numbers made of them; the closing line must be the given one.
compares() { # NAME AWK-PROGRAM TOOLCHAIN STATUS CLOSING-LINE
    { echo "# some compiler"; awk -F '\t' -v OFS='\t' "$2" $counts; } >$out/altered.txt
    compare $out/altered.txt $counts "$3" >$out/compare.log
    status=$?
    if [ $status -eq "$4" ] && [ "$(tail -n 1 $out/compare.log)" = "$5" ]; then
        report "$1" ""
    else
        report "$1" "status $status, wanted $4 and '$5':
$(cat $out/compare.log)"
    fi
}

self_test_compare() {
    all=$(awk 'END { print NR }' $counts)
    compares 'the same numbers pass' '{ print $1, $2 }' 'some compiler' 0 "$all passed, 0 failed, 0 skipped"
    compares 'numbers lowered by 4 % pass' '{ print $1, $2 * 0.96 }' 'some compiler' 0 \
        "$all passed, 0 failed, 0 skipped"
    compares 'numbers lowered by 6 % fail' '{ print $1, $2 * 0.94 }' 'some compiler' 1 \
        "0 passed, $all failed, 0 skipped"
    compares 'one lowered by 6 % fails' '{ print $1, NR == 3 ? $2 * 0.94 : $2 }' 'some compiler' 1 \
        "$((all - 1)) passed, 1 failed, 0 skipped"
    compares 'numbers raised by 6 % pass' '{ print $1, $2 * 1.06 }' 'some compiler' 0 \
        "$all passed, 0 failed, 0 skipped"
    report 'numbers raised by 6 % are said to be too high' \
        "$([ "$(grep -c 'lower the expectation' $out/compare.log)" -eq "$all" ] || cat $out/compare.log)"
    compares 'a case without expectation fails' 'NR != 2 { print $1, $2 }' 'some compiler' 1 \
        "$((all - 1)) passed, 1 failed, 0 skipped"
    compares 'an expectation without case fails' '{ print $1, $2 } END { print "nothing", 1 }' 'some compiler' 1 \
        "$all passed, 1 failed, 0 skipped"
    compares 'another compiler is not compared' '{ print $1, $2 * 0.5 }' 'another one' 0 \
        "0 passed, 0 failed, $all skipped"
    : >$out/nothing.tsv
    compare $out/nothing.tsv $out/nothing.tsv 'some compiler' >$out/compare.log
    report 'nothing at all fails' "$([ $? -eq 1 ] || cat $out/compare.log)"
}

# Three rounds, four, and one; less is better, but not of what is counted per second.
table_sample() {
    cat <<'SAMPLE' | tr ';' '\t'
timers;evloop;1;insert, 1000 live;ns;10
timers;libuv;1;insert, 1000 live;ns;40
timers;evloop;2;insert, 1000 live;ns;20
timers;libuv;2;insert, 1000 live;ns;40
timers;evloop;3;insert, 1000 live;ns;12
timers;libuv;3;insert, 1000 live;ns;60
rate;libuv;1;requests;1/s;1000
rate;evloop;1;requests;1/s;2000
rate;libuv;2;requests;1/s;1000
rate;evloop;2;requests;1/s;4000
rate;libuv;3;requests;1/s;1000
rate;evloop;3;requests;1/s;3000
rate;libuv;4;requests;1/s;2000
rate;evloop;4;requests;1/s;20000
timers;libev;1;a "burst";us;0.123456
SAMPLE
}

# What the table has of the sample, in some format, must have a line.
table_has() { # FORMAT LINE
    table_sample | awk -v format=$1 -f bench/table.awk >$out/table.txt 2>&1 && grep -qxF -e "$2" $out/table.txt
    report "table, $1: $2" "$([ $? -eq 0 ] || cat $out/table.txt)"
}

self_test_table() {
    table_has csv 'question,case,unit,library,rounds,median,min,max,ratio,ratio_min,ratio_max'
    table_has csv 'timers,"insert, 1000 live",ns,evloop,3,12.0,10.0,20.0,4.00,2.00,5.00'
    table_has csv 'timers,"insert, 1000 live",ns,libuv,3,40.0,40.0,60.0,,,'
    table_has csv 'rate,requests,1/s,evloop,4,3500,2000,20000,3.50,2.00,10.0'
    table_has csv 'timers,"a ""burst""",us,libev,1,0.123,0.123,0.123,,,'
    table_has table 'timers                        median   min - max            to libuv   min - max'
    table_has table '    evloop.h                    12.0   10.0 - 20.0              4.00   2.00 - 5.00'
    table_has table '    libev                      0.123'
    table_has markdown '| insert, 1000 live | ns | 12.0 | 40.0 | | **4.00** (2.00–5.00) |'
    table_has markdown '| requests | 1/s | 3500 | 1000 | **3.50** (2.00–10.0) |'
    printf 'timers\tlibuv\t1\tinsert\tns\tnothing\n' | awk -f bench/table.awk >$out/table.txt 2>&1
    report 'table: what is no result is an error' "$([ $? -eq 1 ] || cat $out/table.txt)"
}

# ---- The run ----

self_test() {
    count
    self_test_compare
    self_test_table
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}

command -v valgrind >/dev/null || {
    echo "'valgrind' is missing; install it, for example: apt-get install valgrind" >&2
    exit 1
}
[ "${1:-}" = --self-test ] && self_test
count
[ -z "${PROFILE:-}" ] || print_profiles "$PROFILE"
toolchain=$(toolchain | paste -s -d ' ' -)
if [ -n "${UPDATE:-}" ]; then
    write_expected "$toolchain" >$out/expected.txt && mv $out/expected.txt $expected
    echo "written: $expected"
fi
[ -f $expected ] || die "there is no $expected; UPDATE=1 writes it"
compare $expected $counts "$toolchain"
