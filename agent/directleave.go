package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"nigh/agent/control"
	"nigh/wpa"
)

// Bounds of leaving. Somebody who wants out of a group gets an answer, whatever
// the supplicant does.
const (
	leaveLimit = 8 * time.Second
	goneLimit  = time.Second // for the interface of a group that has ended
	gonePoll   = 50 * time.Millisecond
)

var (
	// errAbandoned ends what was forming a group when somebody leaves.
	errAbandoned = errors.New("agent: forming the group was given up")
	// errStuck is returned when the supplicant does not let go of a group.
	errStuck = errors.New("agent: the radio does not let go of the group")
)

// formation notes that a group is being formed; ctx is cancelled when somebody
// leaves meanwhile. Call over when it is formed or has failed: it returns
// errAbandoned in place of err if that was the cause.
func (d *direct) formation(ctx context.Context) (_ context.Context, over func(err error) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &forming{cancel: cancel, done: make(chan struct{})}
	d.mu.Lock()
	d.formings[f] = true
	d.mu.Unlock()
	return ctx, func(err error) error {
		d.mu.Lock()
		delete(d.formings, f)
		d.mu.Unlock()
		close(f.done)
		if err != nil && errors.Is(context.Cause(ctx), errAbandoned) {
			err = errAbandoned
		}
		cancel(nil)
		return err
	}
}

// forming is a group that is being formed.
type forming struct {
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it is formed or has failed
}

// abandon ends what forms groups, forgets what is to be connected to, and waits
// until that is over. It reports whether there was anything.
func (d *direct) abandon(ctx context.Context) bool {
	d.mu.Lock()
	clear(d.wants)
	var all []*forming
	for f := range d.formings {
		all = append(all, f)
	}
	d.mu.Unlock()
	for _, f := range all {
		f.cancel(errAbandoned)
	}
	for _, f := range all {
		select {
		case <-f.done:
		case <-ctx.Done():
			return true
		}
	}
	return len(all) > 0
}

// leave ends or leaves the group on an interface. [control.AnyGroup] means the
// only one, and what is being formed. It answers within leaveLimit: nil when this
// device is in no such group any more, else what keeps it.
func (d *direct) leave(ctx context.Context, ifname string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaveLimit, errStuck)
	defer cancel()
	d.unsaid()
	abandoned := false
	if ifname == control.AnyGroup {
		ifname, abandoned = "", d.abandon(ctx)
	}
	radio, err := d.current()
	if err != nil {
		return err
	}
	id, ifname, err := d.groupOn(ifname)
	if abandoned && errors.Is(err, errNoGroup) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := radio.Leave(ctx, id); err != nil && !errors.Is(err, wpa.ErrNoGroup) { // it may have ended meanwhile
		if errors.Is(context.Cause(ctx), errStuck) {
			return errStuck
		}
		return err
	}
	// A supplicant that does not answer is not waited for, so look.
	limit, stop := context.WithTimeout(ctx, goneLimit)
	defer stop()
	for there(ifname) {
		if !wait(limit, gonePoll) {
			return errStuck
		}
	}
	return nil
}

func there(ifname string) bool {
	_, err := net.InterfaceByName(ifname)
	return err == nil
}
