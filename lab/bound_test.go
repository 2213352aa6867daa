package lab

import "testing"

func TestCPUPressure(t *testing.T) {
	got, err := cpuPressure("some avg10=62.50 avg60=0.95 avg300=1.33 total=10588755458\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	if err != nil || got != 62.5 {
		t.Errorf("got %v, %v, want 62.5", got, err)
	}
	for _, bad := range []string{"", "full avg10=1", "some avg60=1"} {
		if got, err := cpuPressure(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}
