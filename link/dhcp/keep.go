package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	againFirst = 30 * time.Second // until an address is asked for again after nobody gave one, doubled each time
	againMax   = 10 * time.Minute // between two attempts to get a lease
	extendMin  = 5 * time.Second  // between attempts to extend a lease; RFC 2131 4.4.5 has a minute, more than a short lease leaves
)

// Keep has an address on a link for as long as ctx lasts: it asks for one, extends it when half of its time is over, asks any
// server when seven eighths are (RFC 2131 4.4.5), and begins anew when it is refused or runs out. changed is told every
// lease that is new, and the zero Lease when an address may not be used any more; it configures the link, is never called twice at
// a time, and not after Keep returned. Keep returns nil when ctx ended, without giving the address back, and an error when the
// link is gone or rights are missing (CAP_NET_RAW, and CAP_NET_BIND_SERVICE for extending).
func Keep(ctx context.Context, c ClientConfig, changed func(Lease)) error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := keep(ctx, client{c}, c.Logger.With("ifname", c.Ifname), changed); err != nil {
		return fmt.Errorf("dhcp: address for %s: %w", c.Ifname, err)
	}
	return nil
}

// asker is what keep needs of a client.
type asker interface {
	acquire(ctx context.Context) (Lease, error)
	extend(ctx context.Context, l Lease, anybody bool) (Lease, error)
}

func keep(ctx context.Context, a asker, log *slog.Logger, changed func(Lease)) error {
	again := againFirst
	for {
		l, err := a.acquire(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			again = againFirst
			changed(l)
			why := hold(ctx, a, log, l)
			if ctx.Err() != nil {
				return nil
			}
			log.Info("DHCP lease ended", "address", l.Prefix.String(), "err", why)
			changed(Lease{})
			continue
		case !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrRefused):
			return err
		}
		log.Debug("No DHCP lease", "err", err)
		if !pause(ctx, again) {
			return nil
		}
		again = min(2*again, againMax)
	}
}

// errExpired says that a lease ran out and nobody extended it.
var errExpired = errors.New("nobody extended the lease")

// hold extends a lease until it cannot, and returns why.
func hold(ctx context.Context, a asker, log *slog.Logger, l Lease) error {
	since := time.Now()
	if !pause(ctx, l.Renew) {
		return ctx.Err()
	}
	for {
		age := time.Since(since)
		if age >= l.Duration {
			return errExpired
		}
		asked := time.Now()
		// An answer after the end is no use.
		tctx, cancel := context.WithTimeout(ctx, l.Duration-age)
		now, err := a.extend(tctx, l, age >= l.Rebind)
		cancel()
		next := l.Rebind
		if age >= l.Rebind {
			next = l.Duration
		}
		wait := min(max((next-time.Since(since))/2, extendMin), max(l.Duration-time.Since(since), 0))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrRefused):
			return err
		case err == nil:
			l, since = now, asked // counted from the question: the server may have answered at once
			wait = max(l.Renew-time.Since(since), 0)
		default:
			log.Debug("DHCP lease not extended yet", "address", l.Prefix.String(), "err", err)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
