package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"nigh/link"
)

// Some links are used at once and many after each other, those in use stay so, and a group never waits.
func TestAdmissionOfLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newAdmission()
		some := func(from, to int) (links []link.Link) {
			for i := from; i < to; i++ {
				links = append(links, link.Link{Index: i, Name: fmt.Sprintf("eth%d", i), Kind: link.Ethernet, Usable: true})
			}
			return links
		}
		unusable := link.Link{Index: 900, Kind: link.Ethernet}
		if now, again := d.admit(append(some(1, 4), unusable)); len(now) != 3 || again != 0 {
			t.Errorf("three links: %d at once, %v", len(now), again)
		}
		now, again := d.admit(some(1, 31))
		if len(now) != linksBurst || again == 0 {
			t.Errorf("thirty links: %d at once, %v", len(now), again)
		}
		group := link.Link{Index: 901, Name: "p2p0", Kind: link.Direct, Usable: true}
		if now, _ := d.admit(append(some(1, 31), group)); len(now) != linksBurst+1 || now[len(now)-1].Name != "p2p0" {
			t.Errorf("a group has to wait: %d", len(now))
		}
		for range 100 {
			time.Sleep(again)
			if now, again = d.admit(some(1, 31)); again == 0 {
				break
			}
		}
		if len(now) != 30 {
			t.Errorf("in the end %d", len(now))
		}
		// Others in their place, by the hundred: one after the other.
		begun := 0
		for i := range 100 {
			time.Sleep(10 * time.Millisecond)
			now, _ := d.admit(some(1000+30*i, 1030+30*i))
			begun += len(now)
		}
		if begun > linksPerSecond+1 {
			t.Errorf("%d links were begun in a second", begun)
		}
	})
}
