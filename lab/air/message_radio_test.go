//go:build radio

package air_test

import (
	"slices"
	"testing"
	"time"

	"nigh/agent/control"
)

// A message between two devices that share no network: one command forms the group, and the message that waited meanwhile
// arrives once; the answer goes the same way.
func TestMessageOverWiFiDirect(t *testing.T) {
	_, agents := trusting(t, 2)
	ada, bob := agents[0], agents[1]
	began := time.Now()
	nigh(t, ada, 3*time.Minute, "msg", "can you hear me", "--to", "bob", "--wait", "--timeout", "2m30s")
	t.Logf("delivered %.1f s after the command, by simulated radios in an emulated machine", time.Since(began).Seconds())
	await(t, ada, time.Minute, inGroup)
	nigh(t, bob, time.Minute, "msg", "yes", "--to", "ada", "--wait", "--timeout", "50s")
	for _, w := range []struct {
		at   int
		text string
	}{{1, "can you hear me"}, {0, "yes"}} {
		var list []control.Message
		if err := agents[w.at].JSON(t.Context(), &list, "messages"); err != nil {
			t.Fatal(err)
		}
		list = slices.DeleteFunc(list, func(m control.Message) bool { return m.Direction == "send" })
		if len(list) != 1 || list[0].Text != w.text {
			t.Errorf("%s has %+v", agents[w.at].Name, list)
		}
	}
}
