package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// goals are the ratios of wall times that nigh has to reach: nigh's time divided by the reference's.
var goals = map[string][]struct {
	reference string
	atMost    float64
}{
	fileSet: {{"nc", 1 / 0.75}, {"scp", 1 / 2.5}, {"scp -O, aes128-gcm", 1 / 2.0}, {"rsync, ssh", 1 / 2.0}},
	treeSet: {{"tar, nc", 1.6}, {"tar, ssh", 1 / 2.0}, {"rsync, ssh", 1 / 2.0}},
}

// report prints the medians of one set of data as a Markdown table, and below it how nigh compares.
func report(w io.Writer, s set, tools []tool, results map[string][]measurement) {
	fmt.Fprintf(w, "\n### %s, tmpfs to tmpfs over veth\n\n", strings.ToUpper(s.title[:1])+s.title[1:])
	fmt.Fprintln(w, "| tool | wall s (min to max) | MB/s | CPU-s sender | CPU-s receiver | RSS MiB sender | RSS MiB receiver | other CPU-s |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
	wall := map[string]time.Duration{}
	for _, t := range tools {
		runs := results[t.name]
		if len(runs) == 0 {
			continue
		}
		m := medians(runs)
		wall[t.name] = m.wall
		low, high := runs[0].wall, runs[0].wall
		for _, r := range runs {
			low, high = min(low, r.wall), max(high, r.wall)
		}
		fmt.Fprintf(w, "| %s | %.2f (%.2f to %.2f) | %.0f | %.2f | %.2f | %s | %s | %.2f |\n", t.name,
			m.wall.Seconds(), low.Seconds(), high.Seconds(), float64(s.bytes)/1e6/m.wall.Seconds(),
			m.senderCPU.Seconds(), m.receiverCPU.Seconds(), memory(m.senderRSS, m.floorRSS), memory(m.receiverRSS, m.floorRSS), m.otherCPU.Seconds())
	}
	own, ok := wall["nigh"]
	if !ok || len(wall) == 1 {
		return
	}
	fmt.Fprintf(w, "\n| nigh beside | time of nigh / its time | goal | |\n|---|---|---|---|\n")
	for _, t := range tools {
		theirs, ok := wall[t.name]
		if !ok || t.name == "nigh" {
			continue
		}
		ratio := float64(own) / float64(theirs)
		goal, verdict := "", ""
		for _, g := range goals[s.name] {
			if g.reference == t.name {
				goal, verdict = fmt.Sprintf("≤ %.2f", g.atMost), "missed"
				if ratio <= g.atMost {
					verdict = "met"
				}
			}
		}
		fmt.Fprintf(w, "| %s | %.2f | %s | %s |\n", t.name, ratio, goal, verdict)
	}
}

// memory prints MiB; what is not above the floor was not measured.
func memory(rss, floor int64) string {
	const slack = 1 << 20 // the floor moves a little between reading it and starting a program
	if rss <= floor+slack {
		return fmt.Sprintf("< %d", (floor+slack)>>20+1)
	}
	return strconv.FormatInt(rss>>20, 10)
}

// medians takes the median of each figure by itself.
func medians(runs []measurement) measurement {
	return measurement{
		wall:        median(runs, func(m measurement) time.Duration { return m.wall }),
		senderCPU:   median(runs, func(m measurement) time.Duration { return m.senderCPU }),
		receiverCPU: median(runs, func(m measurement) time.Duration { return m.receiverCPU }),
		otherCPU:    median(runs, func(m measurement) time.Duration { return m.otherCPU }),
		senderRSS:   median(runs, func(m measurement) int64 { return m.senderRSS }),
		receiverRSS: median(runs, func(m measurement) int64 { return m.receiverRSS }),
		floorRSS:    median(runs, func(m measurement) int64 { return m.floorRSS }),
	}
}

// median returns the middle value; of an even number of values the mean of the two in the middle.
func median[T ~int64](runs []measurement, of func(measurement) T) T {
	values := make([]T, len(runs))
	for i, m := range runs {
		values[i] = of(m)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
