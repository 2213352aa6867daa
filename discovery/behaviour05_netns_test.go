//go:build netns

package discovery

import (
	"testing"
	"time"

	"nigh/lab/avahi"
)

// Row 5, with records that live ten seconds: who announced them and says no more is gone when they are over, and is asked
// for before. What sessions add for trusted devices, ten seconds whatever the records say, whole agents show in
// TestShow2KilledAndNewLinks.
func TestBehaviour05RecordsExpire(t *testing.T) {
	wait := long(t)
	_, _, h := segment(t, 3)
	browser := avahi.Start(t, h[0]).Browse()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	watcher.awaitPublishing()
	questions := count(t, h[2], "eth0")
	rrs := service(t, "brief", "10.0.0.3")
	for _, rr := range rrs {
		rr.Header().Ttl = 10
	}
	if err := h[2].Do(func() error { return send("10.0.0.3:5353", "224.0.0.251:5353", 255, response(t, rrs)) }); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	watcher.await("the announcement", func(e Event) bool { return e.Op == Found && e.Instance == "brief" })
	asked := questions.total()
	wait()
	_, at := watcher.awaitFor(30*time.Second, "its end", func(e Event) bool { return e.Op == Gone && e.Instance == "brief" })
	if took := at.Sub(began); took < 9*time.Second {
		t.Errorf("gone after %v, before its time", took)
	}
	within(t, "end of records of 10 s to Gone", 11*time.Second, []time.Duration{at.Sub(began)})
	_, at = browser.Await("Avahi's -", func(s string) bool { f := avahi.Parse(s); return f.Op == "-" && f.Name == "brief" })
	within(t, "the same in Avahi", 12*time.Second, []time.Duration{at.Sub(began)})
	if n := questions.total() - asked; n < 2 {
		t.Errorf("%d packets in the ten seconds: nobody asked for it again", n)
	}
}

// Row 5 as it is: kill -9, and the records that are announced in earnest.
func TestBehaviour05KillIsSeenByItsRecords(t *testing.T) {
	wait := long(t)
	_, _, h := segment(t, 3)
	browser := avahi.Start(t, h[0]).Browse()
	watcher := start(t, h[1], Config{ShortID: id(1)})
	p := start(t, h[2], Config{ShortID: id(2)})
	browser.Await("+", func(s string) bool { f := avahi.Parse(s); return f.Op == "+" && f.Name == p.label })
	watcher.await("the newcomer", of(Found, p))
	began := p.kill()
	wait()
	_, at := watcher.awaitFor(3*time.Minute, "its end", of(Gone, p))
	within(t, "kill -9 to another nigh's Gone", 125*time.Second, []time.Duration{at.Sub(began)})
	_, at = browser.AwaitFor(time.Minute, "-", func(s string) bool { f := avahi.Parse(s); return f.Op == "-" && f.Name == p.label })
	within(t, "kill -9 to Avahi's -", 125*time.Second, []time.Duration{at.Sub(began)})
}
