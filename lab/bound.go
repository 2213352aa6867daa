package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Pressure on the processors, in percent of the last ten seconds, above which a time bound is stretched, and how often.
const (
	busyPressure, busyStretch       = 50, 3
	crowdedPressure, crowdedStretch = 80, 8
)

// Bound returns the time limit to hold a measurement to: d, or several times d while other programs wait for the
// processors of this machine, which it then logs. Call it after the measurement. A machine that does not say how busy it is
// counts as calm.
func Bound(tb testing.TB, d time.Duration) time.Duration {
	tb.Helper()
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return d
	}
	pressure, err := cpuPressure(string(text))
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	switch {
	case pressure > crowdedPressure:
		tb.Logf("lab: processors are waited for in %.0f%% of the time: bound of %v stretched %d times", pressure, d, crowdedStretch)
		return crowdedStretch * d
	case pressure > busyPressure:
		tb.Logf("lab: processors are waited for in %.0f%% of the time: bound of %v stretched %d times", pressure, d, busyStretch)
		return busyStretch * d
	}
	return d
}

// cpuPressure reads the share of the last ten seconds in which some task waited for a processor, in percent, from what the
// kernel says of pressure stalls.
func cpuPressure(text string) (percent float64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	if _, err := fmt.Sscanf(line, "some avg10=%f", &percent); err != nil {
		return 0, fmt.Errorf("pressure of the processors %q: %w", line, err)
	}
	return percent, nil
}
