package transfer

import (
	"math"
	"sync"
	"time"
)

// A meter turns counts of bytes into a rate that forgets with a half-life of a few seconds. In the beginning it is the mean: what comes first
// comes in pieces. The zero value is ready.
type meter struct {
	mu    sync.Mutex
	bytes float64 // counted, those of long ago less ..
	took  float64 // .. in so many seconds
	last  time.Time
	since int64 // bytes counted after last
}

const (
	meterHalfLife = 3 * time.Second
	meterFirst    = 500 * time.Millisecond // until there is a rate
	meterEvery    = 100 * time.Millisecond
)

func (m *meter) add(n int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.IsZero() {
		m.last = now // the time that these took is not known
		return
	}
	m.since += n
	if d := now.Sub(m.last); d >= meterFirst || m.took > 0 && d >= meterEvery {
		m.settle(d, now)
	}
}

func (m *meter) settle(d time.Duration, now time.Time) {
	keep := math.Exp2(-d.Seconds() / meterHalfLife.Seconds())
	m.bytes = m.bytes*keep + float64(m.since)
	m.took = m.took*keep + d.Seconds()
	m.since, m.last = 0, now
}

// value returns the rate now, 0 while there is none; it falls while nothing is counted.
func (m *meter) value(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := now.Sub(m.last); !m.last.IsZero() && d >= time.Second {
		m.settle(d, now)
	}
	if m.took == 0 {
		return 0
	}
	return m.bytes / m.took
}

// reset forgets everything: the transfer stands still.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes, m.took, m.since, m.last = 0, 0, 0, time.Time{}
}
