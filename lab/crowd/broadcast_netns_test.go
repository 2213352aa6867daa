//go:build netns

package crowd

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestShow9Broadcast sends messages from one device to all of fifty: each has each of them, once and in order, and the sender knows
// within a second.
func TestShow9Broadcast(t *testing.T) {
	n := size(t, 50)
	c := New(t, n+1)
	if err := c.Start(t.Context(), 0, n+1); err != nil {
		t.Fatal(err)
	}
	befriendAll(t, c.Agents[0], c.Agents[1:])
	together(t, c.Agents[0], n)

	events := make([]<-chan control.Event, n)
	for i, a := range c.Agents[1:] {
		ch, err := a.Client().Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events[i] = ch
	}
	const messages = 5
	var worst, known []time.Duration
	for k := range messages {
		text := fmt.Sprintf("message %d", k)
		shown := make([]time.Duration, n)
		began := time.Now()
		var group errgroup.Group
		for i, ch := range events {
			group.Go(func() error {
				got, err := nextMessage(t, ch)
				shown[i] = time.Since(began)
				if err == nil && got != text {
					err = fmt.Errorf("%s got %q instead of %q", Name(i+1), got, text)
				}
				return err
			})
		}
		group.Go(func() error {
			m, err := c.Agents[0].Client().SendMessage(t.Context(), control.MessageRequest{Text: text, All: true})
			if err == nil && len(m.To) != n {
				err = fmt.Errorf("the message went to %d devices", len(m.To))
			}
			return err
		})
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := delivered(t, c.Agents[0], text, n); err != nil {
			t.Fatal(err)
		}
		known = append(known, time.Since(began))
		slices.Sort(shown)
		worst = append(worst, shown[n-1])
		t.Logf("%q is shown by half of %d devices after %v, by all after %v; the sender knows after %v", text, n, shown[n/2], shown[n-1], known[k])
	}
	slices.Sort(worst)
	slices.Sort(known)
	t.Logf("measured: a message to %d devices is shown by all after %v, and delivered after %v (median of %d)", n, worst[messages/2], known[messages/2], messages)
	if most := lab.Bound(t, time.Second); known[messages/2] > most {
		t.Errorf("delivered after %v, want at most %v", known[messages/2], most)
	}
	for i, a := range c.Agents[1:] {
		page, err := a.Client().Messages(t.Context(), control.MessageQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Messages) != messages {
			t.Errorf("%s has %d messages, want %d", Name(i+1), len(page.Messages), messages)
		}
	}
	u := usage(t, c, 0)
	t.Logf("measured: the device with %d sessions has %.1f MiB RSS", n, mib(u.RSS))
}

// befriendAll makes a device and each of the others trust each other.
func befriendAll(t *testing.T, a *node.Agent, others []*node.Agent) {
	t.Helper()
	trust := func(a *node.Agent, s control.Status) error {
		_, err := a.Client().ChangeTrust(t.Context(), control.TrustRequest{Action: "add", Device: s.ID, Name: s.Name})
		return err
	}
	own, err := a.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, b := range others {
		group.Go(func() error {
			s, err := b.Client().Status(t.Context())
			if err != nil {
				return err
			}
			if err := trust(b, own); err != nil {
				return err
			}
			return trust(a, s)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// nextMessage returns the text of the next message that a device was sent.
func nextMessage(t *testing.T, events <-chan control.Event) (string, error) {
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return "", fmt.Errorf("the events ended")
			}
			if e.Type == "message" && e.Message.Direction == "receive" {
				return e.Message.Text, nil
			}
		case <-deadline.C:
			return "", fmt.Errorf("no message came")
		case <-t.Context().Done():
			return "", t.Context().Err()
		}
	}
}

// delivered waits until the newest message of a device is delivered to n others.
func delivered(t *testing.T, a *node.Agent, text string, n int) error {
	return a.Await(t.Context(), func(s control.State) bool {
		for _, m := range s.Messages {
			if m.Text != text || m.Direction != "send" {
				continue
			}
			done := 0
			for _, r := range m.To {
				if r.State == "delivered" {
					done++
				}
			}
			return done == n
		}
		return false
	})
}
