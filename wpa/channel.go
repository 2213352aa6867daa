package wpa

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"nigh/wpa/dbusapi"
)

// ChannelError says that a group cannot be on the channel that was asked for, or joined on the channel that it is on. It
// wraps ErrChannel.
type ChannelError struct {
	Station int   // MHz of this radio's Wi-Fi connection, which most radios have to stay on; 0 = there is none
	Err     error // what was refused
}

// Error says which channel the radio is bound to.
func (e *ChannelError) Error() string {
	if e.Station == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v; the Wi-Fi connection holds the radio on %d MHz", e.Err, e.Station)
}

// Unwrap returns Err.
func (e *ChannelError) Unwrap() error { return e.Err }

// stationFrequency returns the frequency in MHz of the Wi-Fi connection of an interface, or 0 when there is none. The kernel
// knows it also after the access point moved; where it does not show the interface, the supplicant is asked.
func stationFrequency(ctx context.Context, api supplicant, owner dbusapi.Path, ifname string) int {
	if list, err := wdevs(); err == nil {
		if i := slices.IndexFunc(list, func(w wdev) bool { return w.Ifname == ifname }); i >= 0 {
			return list[i].Frequency
		}
	}
	_, frequency, err := api.CurrentBSS(ctx, owner)
	if err != nil {
		return 0
	}
	return frequency
}

// wish makes the preferred frequency of a formation the one that it asks for.
func (f *formation) wish() {
	if f.opts.Frequency == 0 && f.opts.Prefer != 0 {
		f.opts.Frequency, f.wishing = f.opts.Prefer, true
	}
}

// withoutWish gives up a wish for a frequency that led to err. It reports whether there was one, and then the formation may go
// on without.
func (m *machine) withoutWish(f *formation, err error) bool {
	if !f.wishing || !errors.Is(err, ErrChannel) {
		return false
	}
	m.log.Info("Forming the group without the preferred frequency", "freq", f.opts.Frequency, "err", err)
	f.opts.Frequency, f.wishing = 0, false
	return true
}

// explain adds to the failure of a formation on which channel the Wi-Fi connection holds the radio. It reports whether the
// formation ends later, with that.
func (m *machine) explain(f *formation, err error) bool {
	if f.explained || m.state != Ready || m.stopping || !errors.Is(err, ErrChannel) {
		return false
	}
	f.explained = true
	f.timer.stop()
	f.nudge.stop()
	owner, ifname := m.owner, m.ifname
	do(m, func(ctx context.Context) (int, error) { return stationFrequency(ctx, m.api, owner, ifname), nil }, func(station int, _ error) {
		m.finish(f, Group{}, &ChannelError{Station: station, Err: err})
	})
	return true
}
