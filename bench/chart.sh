#!/bin/sh
# Draws bench/chart.svg out of the results of bench/run.sh, with gnuplot: how many times better than libuv
# evloop.h, libev and libevent were, for the cases that are listed here.
#
#     sh bench/chart.sh [RESULTS [CHART]]            (or `make bench-chart`)

set -u
cd "$(dirname "$0")/.." || exit 2

results=${1:-build/bench/results.tsv}
chart=${2:-bench/chart.svg}
out=build/bench/chart

die() {
    echo "bench-chart: $*" >&2
    exit 1
}

# What is drawn, from top to bottom: question, case, unit, and its name in the chart.
cases() {
    cat <<'CASES'
timers;insert, 100000 live;ns;timers: insert, 100,000 live
timers;expire, 100000 live;ns;timers: expire, 100,000 live
timers;restart later, 100000 live;ns;timers: restart, 100,000 live
iteration;empty;ns;empty iteration
async;send in a callback, 1 handle;ns;async: to itself, 1 handle
async;send in a callback, 1000 handles;ns;async: to itself, 1,000 handles
async;flood in turns, 1 thread, 1000 handles;ns;async: flood, 1,000 handles
pool;batches of 1;ns;pool: jobs one by one
pool;batches of 64;ns;pool: batches of 64
pool;batches of 10000;ns;pool: batches of 10,000
fs;stat, 32 under way;ns;file stat, 32 at a time
fs;read 4 KiB, 32 under way;ns;file read, 4 KiB, 32 at a time
echo;50 connections;ns CPU;TCP echo: CPU, 50 connections
echo;500 connections;ns CPU;TCP echo: CPU, 500 connections
http;50 connections;ns CPU;HTTP: CPU, 50 connections
churn;50 at a time;ns CPU;short connections: CPU
idle;memory of an idle connection;bytes;memory of an idle connection
code;echo server;KB;size of an echo server
compile;whole library;s;time to compile
CASES
}

# ---- Data: lines "middle library ratio", where rows are counted from below, and the rows' names ----

make_data() {
    cases >$out/cases.txt
    awk -v format=csv -f bench/table.awk "$results" >$out/table.csv || die "$results has lines that are no results"
    awk -v csv=$out/table.csv -v names=$out/names.tsv -v data=$out/data.tsv -v apart=0.28 '
        # A line of CSV in which only a case may be quoted.
        function read_line(line,    name, fields) {
            if (match(line, /"([^"]|"")*"/)) {
                name = substr(line, RSTART + 1, RLENGTH - 2)
                line = substr(line, 1, RSTART - 1) "?" substr(line, RSTART + RLENGTH)
            }
            split(line, fields, ",")
            if (name == "")
                name = fields[2]
            if (fields[9] != "")
                ratio[fields[1] ";" name ";" fields[3], fields[4]] = fields[9]
        }

        BEGIN {
            FS = ";"
            libraries = split("evloop libev libevent", library, " ")
            while ((getline line <csv) > 0)
                read_line(line)
        }

        {
            key = $1 ";" $2 ";" $3
            if ((key, "evloop") in ratio)
                rows[++count] = key
            else
                print "bench-chart: no ratio for " $1 ": " $2 " [" $3 "]" >"/dev/stderr"
            name[key] = $4
        }

        END {
            for (i = 1; i <= count; i++) {
                print count - i "\t" name[rows[i]] >names
                bars = 0
                for (j = 1; j <= libraries; j++)
                    bars += ((rows[i], library[j]) in ratio)
                middle = count - i + (bars - 1) * apart / 2
                for (j = 1; j <= libraries; j++)
                    if ((rows[i], library[j]) in ratio) {
                        print middle "\t" j "\t" ratio[rows[i], library[j]] >data
                        middle -= apart
                    }
            }
            exit count == 0
        }' $out/cases.txt || die "there is nothing to draw: it takes evloop and libuv"
}

# ---- Drawing ----

# The ends of the axis: powers of two, not so far off that nothing else can be told apart.
ends() {
    awk -F '\t' '
        BEGIN { least = 1 / 2; most = 2 }
        {
            while ($3 < least * 1.2 && least > 1 / 16)
                least /= 2
            while ($3 > most / 1.2 && most < 128)
                most *= 2
        }
        END { printf "left = %.9g\nright = %d\n", least, most }' $out/data.tsv
}

# The columns of a library's bars: x, y and the corners.
bar() { # NUMBER
    printf '($2 == %d ? 1 : NaN):1:(1):(end($3)):($1 - half):($1 + half)' $1
}

# A bar reaches from 1, which is libuv, to the ratio, or to the end of the axis.
draw() {
    gnuplot - <<GNUPLOT
$(ends)
rows = $(awk 'END { print NR }' $out/names.tsv)
set terminal svg size 880, 110 + 42 * rows background '#ffffff' font 'Helvetica,Arial,sans-serif,13'
set output '$out/chart.svg'
set datafile separator tab
set margins 0, 0, 0, 0
set lmargin at screen 0.27
set rmargin at screen 0.95
set tmargin at screen 1 - 66.0 / (110 + 42 * rows)
set bmargin at screen 32.0 / (110 + 42 * rows)
set label 'How many times better than libuv' at screen 0.02, screen 1 - 24.0 / (110 + 42 * rows) font ',17' textcolor '#1f2328'
set label 'each measured beside it, in turns; logarithmic' at screen 0.02, screen 1 - 45.0 / (110 + 42 * rows) textcolor '#59636e'
set key at screen 0.95, screen 1 - 24.0 / (110 + 42 * rows) right horizontal Left reverse samplen 1.2 width -2 textcolor '#1f2328'
set logscale x 2
set xrange [left * 0.999:right * 1.001]
set yrange [-0.5:rows - 0.5]
set border 0
set tics scale 0
set xtics ('1/16' 1/16.0, '1/8' 1/8.0, '1/4' 0.25, '1/2' 0.5, 'libuv' 1, '2×' 2, '4×' 4, '8×' 8, '16×' 16, '32×' 32, '64×' 64, '128×' 128) textcolor '#59636e'
set ytics textcolor '#1f2328'
set grid xtics linetype 1 linecolor '#e4e8ec' linewidth 1
set arrow from 1, graph 0 to 1, graph 1 nohead linetype 1 linecolor '#59636e' linewidth 1.5 front
set style fill solid 1 noborder
half = 0.12
end(x) = x < left ? left : x > right ? right : x
text(x) = sprintf(x >= 10 ? '%.0f' : x >= 2 ? '%.1f' : '%.2f', x)
plot \
    '$out/names.tsv' using (NaN):1:yticlabels(2) with points notitle, \
    '$out/data.tsv' using $(bar 1) with boxxyerror linecolor '#0969da' title 'evloop.h', \
    '' using $(bar 2) with boxxyerror linecolor '#818b98' title 'libev', \
    '' using $(bar 3) with boxxyerror linecolor '#c8d1da' title 'libevent', \
    '' using (\$3 >= 1 && \$3 <= right ? \$3 : NaN):1:(text(\$3)) with labels left offset 0.4, 0 font ',10' textcolor '#1f2328' notitle, \
    '' using (\$3 > right ? right : NaN):1:(text(\$3)) with labels right offset -0.4, 0 font ',10' textcolor '#1f2328' notitle, \
    '' using (\$3 < 1 ? end(\$3) : NaN):1:(text(\$3)) with labels right offset -0.4, 0 font ',10' textcolor '#1f2328' notitle
GNUPLOT
}

command -v gnuplot >/dev/null || {
    echo "'gnuplot' is missing; install it, for example: apt-get install gnuplot-nox" >&2
    exit 1
}
[ -s "$results" ] || die "there is no $results: \`make bench\` makes it"
mkdir -p $out
rm -f $out/*
make_data
draw && [ -s $out/chart.svg ] || die "gnuplot has failed"
mv $out/chart.svg "$chart"
echo "$chart"
