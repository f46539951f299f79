# Makes a list of functions, by their own instructions per operation, out of a file of callgrind's.
#
#     awk -v operations=1000 -f bench/profile.awk FILE

# A name is given once, with a number that stands for it from then on.
/^c?fn=/ {
    number = name = $0
    sub(/^[a-z]*=/, "", number)
    sub(/\).*/, ")", number)
    if (sub(/^[a-z]*=\([0-9]+\) /, "", name))
        name_of[number] = name
    if (/^fn=/)
        current = number
    next
}

# The line behind has the cost of a called function, which counts for that.
/^calls=/ {
    getline
    next
}

/^[-+*0-9]/ { cost[current] += $2 }

END {
    for (number in cost)
        printf "%12.2f  %s\n", cost[number] / operations, name_of[number]
}
