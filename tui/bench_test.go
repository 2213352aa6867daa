package tui

import (
	"fmt"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// crowd is an app with 300 devices near and 10 000 transfers in the list.
func crowd(tb testing.TB) *app {
	st := sampleState()
	for i := range 300 {
		p := samplePeers()[i%2]
		p.ID, p.Name = deviceID(fmt.Sprintf("C%03d", i)), fmt.Sprintf("device number %d", i)
		st.Peers = append(st.Peers, p)
	}
	for i := range 10_000 {
		t := sampleTransfers()[4]
		t.ID, t.Name = fmt.Sprintf("x%05d", i), fmt.Sprintf("file %d.iso", i)
		st.Transfers = append(st.Transfers, t)
	}
	a := newApp(tb.Context(), &fakeAgent{}, theme.New(false, true, theme.Unknown), time.Now())
	a.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
	a.conn.gen = 1
	a.Update(eventsMsg{gen: 1, at: time.Now(), list: []control.Event{{Seq: 1, Type: "state", State: &st}}})
	return a
}

// BenchmarkUpdate is one event of a device or a transfer, and the frame after it.
func BenchmarkUpdate(b *testing.B) {
	for _, tab := range []int{0, 1} {
		a := crowd(b)
		a.tab = tab
		b.Run(a.screen().title(), func(b *testing.B) {
			for i := range b.N {
				e := control.Event{Seq: a.st.seq + 1, Type: "peer"}
				if tab == 0 {
					p := samplePeers()[0]
					p.ID, p.Name, p.Age = deviceID(fmt.Sprintf("C%03d", i%300)), fmt.Sprintf("device number %d", i%300), float64(i%60)
					e.Peer = &p
				} else {
					t := sampleTransfers()[0]
					t.BytesDone = int64(i)
					e.Type, e.Transfer = "transfer", &t
				}
				a.Update(eventsMsg{gen: 1, at: time.Now(), list: []control.Event{e}})
				_ = a.View()
			}
		})
	}
}

// BenchmarkKey is one key and the frame after it.
func BenchmarkKey(b *testing.B) {
	a := crowd(b)
	for i := range b.N {
		a.Update(keyMsg([]string{"j", "k", "2", "1"}[i%4]))
		_ = a.View()
	}
}
