package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

const (
	firstByteWhat = "Wi-Fi Direct in the lab: group started to first payload byte"
	firstByteMost = 0.3 // seconds
	againWhat     = "Wi-Fi Direct in the lab, persistent group: command to first byte"
	againMost     = 2.0
)

// radioLeftOut is in the table of a run without -radio.
var radioLeftOut = []row{
	{firstByteWhat, fmt.Sprintf("≤ %.1f s", firstByteMost), "left out: `-radio` measures it", notMeasured},
	{againWhat, fmt.Sprintf("≤ %.0f s", againMost), "left out: `-radio` measures it", notMeasured},
}

// measureRadio lets the lab's guest, with simulated radios and real wpa_supplicant, form groups as often as there are rounds.
func measureRadio(ctx context.Context, rounds int) ([]row, error) {
	const lab, demo, nigh = "bin/lab", "bin/lab-demo", "bin/lab-nigh" // not below /tmp, which the guest has of its own
	for binary, source := range map[string]string{lab: "./lab/cmd/lab", demo: "./lab/demo", nigh: "."} {
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build %s: %w: %s", source, err, out)
		}
	}
	progress("booting the lab's guest")
	limit := fmt.Sprintf("%dm", 10+3*rounds) // emulated machines are slow
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, lab, "run", "-timeout", limit, "--", demo, "-nigh", nigh, "-limit", limit, "-rounds", strconv.Itoa(rounds))
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stderr), os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return radioRows(out.String())
}

// radioLine is a line of the demo's table: a kind of group, and medians in seconds.
var radioLine = regexp.MustCompile(`(?m)^(new group, sender is GO|new group, sender is client|persistent group again) +([0-9.]+) s +([0-9.]+) s +([0-9.]+) s +([0-9.]+) s`)

// radioRows reads what the demo has printed. Of the kinds of group the slowest counts.
func radioRows(text string) ([]row, error) {
	worst, again, kinds := 0.0, 0.0, 0
	for _, m := range radioLine.FindAllStringSubmatch(text, -1) {
		kinds++
		first, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, err
		}
		worst = max(worst, first)
		if strings.HasPrefix(m[1], "persistent") {
			if again, err = strconv.ParseFloat(m[5], 64); err != nil {
				return nil, err
			}
		}
	}
	if kinds != 3 {
		return nil, errors.New("the lab's demo did not print its table")
	}
	return []row{
		judge(firstByteWhat, radioLeftOut[0].goal, fmt.Sprintf("%.2f s", worst), worst <= firstByteMost),
		judge(againWhat, radioLeftOut[1].goal, fmt.Sprintf("%.2f s", again), again <= againMost),
	}, nil
}
