//go:build netns

package discovery

import (
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 2: nigh starts where Avahi's service and another nigh are already.
func TestBehaviour02NewcomerFindsAll(t *testing.T) {
	alone(t)
	_, _, h := segment(t, 3)
	daemon := avahi.Start(t, h[0])
	client, browser := daemon.Client(), daemon.Browse()
	client.Publish(7600, []string{"v=1"}, "Avahi's thing").Await(avahi.Established)
	other := start(t, h[1], Config{ShortID: id(1)})
	other.awaitPublishing()
	var ofAvahi, ofNigh []time.Duration
	for i := range 6 {
		p := start(t, h[2], Config{ShortID: id(100 + i)})
		for range 2 {
			e, at := p.await("what is there", func(e Event) bool {
				return e.Op == Found && (e.Instance == other.label || e.Instance == "Avahi's thing")
			})
			if e.Instance == other.label {
				ofNigh = append(ofNigh, at.Sub(p.begun))
			} else {
				ofAvahi = append(ofAvahi, at.Sub(p.begun))
			}
		}
		// Nobody says a record twice in a second (RFC 6762 6): the next newcomer comes after that.
		p.stop()
		browser.Await("the newcomer gone", func(s string) bool { f := avahi.Parse(s); return f.Op == "-" && f.Name == p.label })
	}
	// Avahi keeps silent when it has answered somebody, perhaps itself, half a second before: then it hears the second question.
	share(t, "newcomer finds Avahi's service", 500*time.Millisecond, ofAvahi, 4)
	within(t, "newcomer finds Avahi's service, at the latest", 1500*time.Millisecond, ofAvahi)
	within(t, "newcomer finds another nigh", 500*time.Millisecond, ofNigh)
}
