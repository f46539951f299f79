# Makes the table of run.sh out of lines "question library round case unit value", separated by tabs.
#
#     awk -v format=table|markdown|csv -f bench/table.awk build/bench/results.tsv
#
# A ratio says how many times better than libuv a library was in the same round: more of what is counted
# per second, less of anything else. Of the rounds' values and ratios the table has the median, the
# least and the most.

BEGIN {
    FS = "\t"
    known = split("evloop libuv libev libevent bare", known_names, " ")
    for (i = 1; i <= known; i++)
        add_library(known_names[i])
}

function add_library(name) {
    if (name in library_seen)
        return
    library_seen[name] = 1
    libraries[++library_count] = name
}

function display(library) {
    return library == "evloop" ? "evloop.h" : library == "bare" ? "bare system calls" : library
}

# ---- Numbers ----

function sort(values, count,    i, j, value) {
    for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--)
            values[j + 1] = values[j]
        values[j + 1] = value
    }
}

function median(values, count) {
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

# Three digits at least, and no more than the measurement is worth.
function number(value,    size) {
    size = value < 0 ? -value : value
    return sprintf(size >= 1000 ? "%.0f" : size >= 10 ? "%.1f" : size >= 1 ? "%.2f" : "%.3g", value)
}

# ---- Reading ----

NF != 6 || $3 !~ /^[0-9]+$/ || $6 !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ {
    printf "table.awk: line %d is no result: %s\n", NR, $0 >"/dev/stderr"
    bad = 1
    next
}

{
    if (!($1 in question_seen)) {
        question_seen[$1] = 1
        questions[++question_count] = $1
    }
    key = $1 "\t" $4 "\t" $5
    if (!(key in key_seen)) {
        key_seen[key] = 1
        keys[++key_count] = key
    }
    add_library($2)
    used[$1, $2] = has[key, $2] = 1
    value_of[key, $2, $3] = $6
    if ($3 > last_round)
        last_round = $3 + 0
}

# ---- One library's line of one case: the globals from `middle` on ----

function summarize(key, library,    unit, round, mine, theirs, values, count, ratios) {
    unit = key
    sub(/.*\t/, "", unit)
    ratio_count = count = 0
    for (round = 0; round <= last_round; round++) {
        if (!((key, library, round) in value_of))
            continue
        mine = values[++count] = value_of[key, library, round] + 0
        if (library == "libuv" || !((key, "libuv", round) in value_of))
            continue
        theirs = value_of[key, "libuv", round] + 0
        if (mine > 0 && theirs > 0)
            ratios[++ratio_count] = unit ~ /\/s$/ ? mine / theirs : theirs / mine
    }
    sort(values, count)
    sort(ratios, ratio_count)
    rounds = count
    middle = number(median(values, count))
    least = number(values[1])
    most = number(values[count])
    ratio = ratio_least = ratio_most = ""
    if (ratio_count == 0)
        return
    ratio = ratio_text(median(ratios, ratio_count))
    ratio_least = ratio_text(ratios[1])
    ratio_most = ratio_text(ratios[ratio_count])
}

function ratio_text(value) {
    return sprintf(value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : value >= 0.1 ? "%.2f" : "%.2g", value)
}

function range(from, to, count) {
    return count > 1 ? from " - " to : ""
}

# ---- As text ----

function text_line(name, middle, values, ratio, ratios,    line) {
    line = sprintf("%-24s%12s   %-19s%10s   %s", name, middle, values, ratio, ratios)
    sub(/ +$/, "", line)
    print line
}

function text_case(key, parts,    i) {
    print "  " parts[2] " [" parts[3] "]"
    for (i = 1; i <= library_count; i++) {
        if (!((key, libraries[i]) in has))
            continue
        summarize(key, libraries[i])
        text_line("    " display(libraries[i]), middle, range(least, most, rounds), ratio, \
            range(ratio_least, ratio_most, ratio_count))
    }
}

# ---- As Markdown: a table for each question, a column for each library ----

function markdown_head(question,    i, line, rule) {
    line = "| " question " | unit |"
    rule = "|---|---|"
    for (i = 1; i <= library_count; i++)
        if ((question, libraries[i]) in used) {
            line = line " " display(libraries[i]) " |"
            rule = rule "---:|"
        }
    print "\n" line " evloop.h to libuv |\n" rule "---:|"
}

function markdown_case(key, parts,    i, line, last) {
    line = "| " parts[2] " | " parts[3] " |"
    for (i = 1; i <= library_count; i++) {
        if (!((parts[1], libraries[i]) in used))
            continue
        if (!((key, libraries[i]) in has)) {
            line = line " |"
            continue
        }
        summarize(key, libraries[i])
        line = line " " middle (libraries[i] != "evloop" && ratio != "" ? " (" ratio ")" : "") " |"
        if (libraries[i] == "evloop" && ratio != "")
            last = "**" ratio "**" (ratio_count > 1 ? " (" ratio_least "–" ratio_most ")" : "")
    }
    print line " " last " |"
}

# ---- As CSV ----

function quoted(text) {
    if (text !~ /[",]/)
        return text
    gsub(/"/, "\"\"", text)
    return "\"" text "\""
}

function csv_case(key, parts,    i) {
    for (i = 1; i <= library_count; i++) {
        if (!((key, libraries[i]) in has))
            continue
        summarize(key, libraries[i])
        print quoted(parts[1]) "," quoted(parts[2]) "," quoted(parts[3]) "," libraries[i] "," rounds "," middle "," \
            least "," most "," ratio "," ratio_least "," ratio_most
    }
}

function question_head(question) {
    if (format == "markdown") {
        markdown_head(question)
    } else if (format != "csv") {
        print ""
        text_line(question, "median", "min - max", "to libuv", "min - max")
    }
}

END {
    if (format == "csv")
        print "question,case,unit,library,rounds,median,min,max,ratio,ratio_min,ratio_max"
    for (q = 1; q <= question_count; q++) {
        question_head(questions[q])
        for (k = 1; k <= key_count; k++) {
            split(keys[k], parts, "\t")
            if (parts[1] != questions[q])
                continue
            if (format == "csv")
                csv_case(keys[k], parts)
            else if (format == "markdown")
                markdown_case(keys[k], parts)
            else
                text_case(keys[k], parts)
        }
    }
    exit bad
}
