# Makes the table of run.sh out of lines "question library round case unit value", separated by tabs.
#
# A ratio says how many times better than libuv a library was: the median of the rounds' ratios.

BEGIN { FS = "\t" }

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

function number(value) {
    return value >= 100000 ? sprintf("%.0f", value) : sprintf("%.4g", value)
}

{
    key = $1 "\t" $4 "\t" $5
    if (!(key in seen)) {
        seen[key] = 1
        keys[++key_count] = key
    }
    if (!((key, $2) in rounds))
        libraries[key] = libraries[key] " " $2
    rounds[key, $2]++
    value_of[key, $2, $3] = $6
    if ($3 > last_round)
        last_round = $3
}

function add_line(key, library,    parts, round, count, values, ratios, ratio_count, mine, theirs, ratio) {
    split(key, parts, "\t")
    for (round = 1; round <= last_round; round++) {
        if (!((key, library, round) in value_of))
            continue
        mine = value_of[key, library, round] + 0
        values[++count] = mine
        theirs = value_of[key, "libuv", round] + 0
        if (mine > 0 && theirs > 0)
            ratios[++ratio_count] = parts[3] ~ /\/s$/ ? mine / theirs : theirs / mine
    }
    sort(values, count)
    sort(ratios, ratio_count)
    ratio = ratio_count ? sprintf("%.2f", median(ratios, ratio_count)) : ""
    if (format == "csv")
        printf "%s,%s,%s,%s,%s,%s,%s,%s\n", parts[1], parts[2], parts[3], library, \
            number(median(values, count)), number(values[1]), number(values[count]), ratio
    else
        printf "%-28s %-9s %10s  %-19s %8s\n", library, parts[3], number(median(values, count)), \
            number(values[1]) "-" number(values[count]), ratio
}

END {
    if (format == "csv")
        print "question,case,unit,library,median,min,max,ratio"
    for (i = 1; i <= key_count; i++) {
        split(keys[i], parts, "\t")
        if (format != "csv")
            printf "\n%-28s %-9s %10s  %-19s %8s\n", parts[1] ": " parts[2], "", "median", "min-max", "to libuv"
        count = split(libraries[keys[i]], names, " ")
        for (j = 1; j <= count; j++)
            add_line(keys[i], names[j])
    }
}
