package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/control"
	"nigh/wpa"
)

// TestGroupWithoutAnAddress checks what is said of a group that is up and gets no address for long: what is missing, and never
// that somebody else does not answer.
func TestGroupWithoutAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAirAgent(t, VisibleEveryone)
		radio := &wpa.Radio{}
		life := &directGroup{d: a.direct, up: time.Now(), group: wpa.Group{ID: "1", Ifname: "p2p-wlan0-0", Role: wpa.Owner}}
		a.direct.groups["1"] = life
		began := time.Now()
		view, err := a.direct.settled(t.Context(), radio, "1")
		if took := time.Since(began); !errors.Is(err, errUnsettled) || took != identityWait || view.Ifname != life.group.Ifname {
			t.Errorf("after %v: %+v, %v", took, view, err)
		}
		if e := explain(err); e.Code != control.CodeTimeout || e.Hint == "" || !strings.Contains(e.Message, "the group is up") || strings.Contains(e.Message, "other side") {
			t.Errorf("it is explained as %+v", e)
		}

		done := make(chan error, 1)
		go func() {
			view, err = a.direct.settled(t.Context(), radio, "1")
			done <- err
		}()
		synctest.Wait()
		began = time.Now()
		life.addressed(netip.MustParseAddr("fe80::1"), netip.Prefix{})
		if err := <-done; err != nil || view.LinkLocal != "fe80::1" || time.Since(began) != 0 {
			t.Errorf("a group with an address, after %v: %+v, %v", time.Since(began), view, err)
		}

		delete(a.direct.groups, "1")
		a.direct.ended = ending{radio, "1", wpa.ReasonKilledByNetworkManager}
		if _, err := a.direct.settled(t.Context(), radio, "1"); !errors.Is(err, wpa.ErrKilledByNetworkManager) {
			t.Errorf("a group that was removed: %v", err)
		}
	})
}
