package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run has found.
type report struct {
	run
	comparisons []comparison
	rows        map[string][]row // by scenario
}

// goals are how nigh has to compare with the other tools.
var goals = map[string][]struct {
	reference string
	faster    float64 // nigh's speed, times the other's: at least
}{
	largeSet: {{"nc", 0.75}, {"scp", 2.5}, {"scp -O, aes128-gcm", 2}, {"rsync, ssh", 2}},
	smallSet: {{"tar, nc", 1 / 1.6}, {"tar, ssh", 2}, {"rsync, ssh", 2}},
	mixedSet: {{"tar, nc", 1}},
}

// order is that of the scenarios in the table, as the design has its goals.
var order = []string{"radio", "listed", largeSet, smallSet, mixedSet, "holders", "resume", "messages", "rates", "memory", "idle", "size"}

// lines returns the yardstick.
func (r report) lines() []row {
	compared := map[string][]row{}
	for _, c := range r.comparisons {
		compared[c.set.name] = c.rows()
	}
	var all []row
	for _, name := range order {
		all = append(all, compared[name]...)
		all = append(all, r.rows[name]...)
		if name == "radio" && r.rows[name] == nil {
			all = append(all, radioLeftOut...)
		}
	}
	return all
}

// rows are the goals of one set of data.
func (c comparison) rows() []row {
	var all []row
	own, ok := c.results[ours]
	if !ok {
		return nil
	}
	for _, g := range goals[c.set.name] {
		theirs, ok := c.results[g.reference]
		if !ok {
			continue
		}
		ratio := float64(medians(theirs).wall) / float64(medians(own).wall)
		all = append(all, judge(c.set.title+", beside "+g.reference, fmt.Sprintf("≥ %.2f × its rate", g.faster), fmt.Sprintf("%.2f ×", ratio), ratio >= g.faster))
	}
	return all
}

// goalTable is the yardstick in Markdown.
func (r report) goalTable(w io.Writer) {
	fmt.Fprintf(w, "| what | goal | measured | |\n|---|---|---|---|\n")
	for _, l := range r.lines() {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", l.what, l.goal, l.figure, l.verdict)
	}
}

// machine says where this was measured.
func (r report) machine() string {
	text := fmt.Sprintf("Medians of %d rounds on %d processors that both ends share", r.rounds, runtime.NumCPU())
	if r.rounds == 1 {
		text = fmt.Sprintf("One round on %d processors that both ends share", runtime.NumCPU())
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if model, ok := strings.CutPrefix(line, "model name\t: "); ok {
				text += " (" + strings.TrimSpace(model) + ")"
				break
			}
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		text += ", Linux " + strings.SplitN(unix.ByteSliceToString(name.Release[:]), "-", 2)[0]
	}
	text += ", TCP " + r.congestion + ", files in memory."
	const calm = 0.3
	if share := r.others(); share > calm {
		text += fmt.Sprintf(" Other programs used %.0f %% of the processors meanwhile, so these figures say little.", 100*share)
	}
	return text
}

// others is the part of the processors' time that was used by neither side while tools moved something.
func (r report) others() float64 {
	var other, all time.Duration
	for _, c := range r.comparisons {
		for _, runs := range c.results {
			for _, m := range runs {
				other += m.otherCPU
				all += m.wall * time.Duration(runtime.NumCPU())
			}
		}
	}
	if all == 0 {
		return 0
	}
	return other.Seconds() / all.Seconds()
}

// print writes everything in Markdown.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", r.machine())
	r.goalTable(w)
	for _, c := range r.comparisons {
		c.print(w)
	}
}

// print writes the medians of one set of data.
func (c comparison) print(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n", strings.ToUpper(c.set.title[:1])+c.set.title[1:])
	fmt.Fprintln(w, "| tool | time of nigh / its time | wall s (min to max) | MB/s | CPU-s sender | CPU-s receiver | MiB sender | MiB receiver | other CPU-s |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	own := c.results[ours]
	for _, t := range c.tools {
		runs := c.results[t]
		m := medians(runs)
		ratio := ""
		if len(own) > 0 && t != ours {
			ratio = fmt.Sprintf("%.2f", float64(medians(own).wall)/float64(m.wall))
		}
		low, high := runs[0].wall, runs[0].wall
		for _, r := range runs {
			low, high = min(low, r.wall), max(high, r.wall)
		}
		fmt.Fprintf(w, "| %s | %s | %.2f (%.2f to %.2f) | %.0f | %.2f | %.2f | %s | %s | %.2f |\n", t, ratio,
			m.wall.Seconds(), low.Seconds(), high.Seconds(), rate(c.set, m)/1e6,
			m.senderCPU.Seconds(), m.receiverCPU.Seconds(), memoryText(m.senderRSS, m.floorRSS), memoryText(m.receiverRSS, m.floorRSS), m.otherCPU.Seconds())
	}
}

// rate is bytes a second.
func rate(s set, m measurement) float64 { return float64(s.bytes) / m.wall.Seconds() }

// memoryText is in MiB; what is not above the floor was not measured.
func memoryText(rss, floor int64) string {
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

func median[T ~int64](runs []measurement, of func(measurement) T) T {
	values := make([]T, len(runs))
	for i, m := range runs {
		values[i] = of(m)
	}
	return middle(values)
}

// fastest sorts the tools of a comparison by their rates, the fastest first.
func (c comparison) fastest() []string {
	return slices.SortedFunc(slices.Values(c.tools), func(a, b string) int {
		return int(medians(c.results[a]).wall - medians(c.results[b]).wall)
	})
}
