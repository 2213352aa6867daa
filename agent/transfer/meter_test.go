package transfer

import (
	"testing"
	"time"
)

// The rate that is shown is right from the beginning, however the bytes come: pairs of groups at half a megabyte a second.
func TestMeter(t *testing.T) {
	const rate, group = 512 << 10, 256 << 10
	var m meter
	now := time.Unix(0, 0)
	for step := range 20 {
		for range 2 {
			m.add(group, now)
			now = now.Add(10 * time.Millisecond)
		}
		if got := m.value(now); step > 0 && (got < rate*7/10 || got > rate*16/10) {
			t.Errorf("%.0f kB/s after %v, want %d", got/1e3, now.Sub(time.Unix(0, 0)), rate/1000)
		}
		now = now.Add(980 * time.Millisecond)
	}
	if got := m.value(now); got < rate*8/10 || got > rate*12/10 {
		t.Errorf("%.0f kB/s in the end, want %d", got/1e3, rate/1000)
	}
	before := m.value(now)
	if got := m.value(now.Add(3 * time.Second)); got > before*2/3 || got < before/3 {
		t.Errorf("%.0f kB/s when nothing has come for as long as half of it is remembered, %.0f before", got/1e3, before/1e3)
	}
	m.reset()
	if got := m.value(now); got != 0 {
		t.Errorf("%f after a reset", got)
	}
}
