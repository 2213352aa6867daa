package control_test

import (
	"strings"
	"testing"

	"nigh/agent/control"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "none": 0, "1500": 1500, "1500B": 1500, "2k": 2000, "2kB": 2000, "20MB": 20e6, "1.5 GiB": 3 << 29,
		"10G": 10e9, "1TiB": 1 << 40, " 3 MB/s ": 3e6, "9000000T": 9e18,
	} {
		if got, err := control.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "-1", "1e9", "10000000T", "1 2", "NaN", "Inf", "1..2", "5bb", "5ik", "5MBit", "0x10", "5 %"} {
		if got, err := control.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		} else if !strings.Contains(err.Error(), "500MB") {
			t.Errorf("ParseSize(%q) does not say what a size is: %v", text, err)
		}
	}
}
