package transfer

import (
	"math"
	"sync"
	"time"
)

// A meter turns counts of bytes into a rate that forgets with a half-life of a few seconds. The zero value is ready.
type meter struct {
	mu    sync.Mutex
	rate  float64 // bytes in a second, at last
	last  time.Time
	since int64 // bytes counted after last
}

const meterHalfLife = 3 * time.Second

func (m *meter) add(n int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.IsZero() {
		m.last = now
	}
	m.since += n
	if d := now.Sub(m.last); d >= 100*time.Millisecond {
		m.settle(d, now)
	}
}

func (m *meter) settle(d time.Duration, now time.Time) {
	current := float64(m.since) / d.Seconds()
	if m.rate == 0 {
		m.rate = current
	} else {
		keep := math.Exp2(-d.Seconds() / meterHalfLife.Seconds())
		m.rate = m.rate*keep + current*(1-keep)
	}
	m.since, m.last = 0, now
}

// value returns the rate now; it falls while nothing is counted.
func (m *meter) value(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := now.Sub(m.last); !m.last.IsZero() && d >= time.Second {
		m.settle(d, now)
	}
	return m.rate
}

// reset forgets everything: the transfer stands still.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate, m.since, m.last = 0, 0, time.Time{}
}
