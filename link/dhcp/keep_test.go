package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a server that answers as the test says, and writes down when it was asked what.
type script struct {
	began   time.Time
	said    []string
	acquire func(n int) (Lease, error) // n-th call from 1
	extend  func(n int, l Lease) (Lease, error)
	a, e    int
}

func (s *script) note(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf("%v ", time.Since(s.began).Round(time.Second))+fmt.Sprintf(format, args...))
}

type scripted struct{ *script }

func (s scripted) acquire(context.Context) (Lease, error) {
	s.a++
	s.note("acquire")
	return s.script.acquire(s.a)
}

func (s scripted) extend(_ context.Context, l Lease, anybody bool) (Lease, error) {
	s.e++
	if anybody {
		s.note("rebind")
	} else {
		s.note("renew")
	}
	return s.script.extend(s.e, l)
}

// The times at which a client asks, and what becomes of the address.
func TestKeepTimes(t *testing.T) {
	first := Lease{Prefix: netip.MustParsePrefix("192.168.49.10/24"), Server: netip.MustParseAddr("192.168.49.1"),
		Duration: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second}
	second := first
	second.Prefix = netip.MustParsePrefix("192.168.49.11/24")
	give := func(leases ...Lease) func(int) (Lease, error) {
		return func(n int) (Lease, error) {
			if n > len(leases) {
				return Lease{}, ErrNoAnswer
			}
			return leases[n-1], nil
		}
	}
	for name, c := range map[string]struct {
		acquire func(int) (Lease, error)
		extend  func(int, Lease) (Lease, error)
		until   time.Duration
		want    []string // what is asked and told up to then; a pattern that ends in * is enough for those that begin with it
		err     error
	}{
		"renewed": {
			acquire: give(first), extend: func(_ int, l Lease) (Lease, error) { return l, nil }, until: 91 * time.Minute,
			want: []string{"0s acquire", "0s 192.168.49.10/24", "30m0s renew", "1h0m0s renew", "1h30m0s renew"},
		},
		"renewed at the third try": {
			acquire: give(first), extend: func(n int, l Lease) (Lease, error) {
				if n < 3 {
					return Lease{}, ErrNoAnswer
				}
				return l, nil
			}, until: 78 * time.Minute,
			want: []string{"0s acquire", "0s 192.168.49.10/24", "30m0s renew", "41m15s renew", "46m53s renew", "1h16m53s renew"},
		},
		"another server": {
			acquire: give(first), extend: func(n int, l Lease) (Lease, error) {
				if n < 11 {
					return Lease{}, ErrNoAnswer
				}
				return l, nil
			}, until: 84 * time.Minute,
			want: []string{"0s acquire", "0s 192.168.49.10/24", "30m0s renew", "... renew", "52m35s rebind", "1h22m35s renew"},
		},
		"run out": {
			acquire: give(first, second), extend: func(int, Lease) (Lease, error) { return Lease{}, ErrNoAnswer }, until: 61 * time.Minute,
			want: []string{"0s acquire", "0s 192.168.49.10/24", "30m0s renew", "... renew", "... rebind", "1h0m0s invalid Prefix", "1h0m0s acquire", "1h0m0s 192.168.49.11/24"},
		},
		"refused": {
			acquire: give(first, second), extend: func(int, Lease) (Lease, error) { return Lease{}, ErrRefused }, until: 31 * time.Minute,
			want: []string{"0s acquire", "0s 192.168.49.10/24", "30m0s renew", "30m0s invalid Prefix", "30m0s acquire", "30m0s 192.168.49.11/24"},
		},
		"nobody there": {
			acquire: give(), until: 31 * time.Minute,
			want: []string{"0s acquire", "30s acquire", "1m30s acquire", "3m30s acquire", "7m30s acquire", "15m30s acquire", "25m30s acquire"},
		},
		"no such link": {
			acquire: func(int) (Lease, error) { return Lease{}, errors.New("no such link") }, until: time.Minute,
			want: []string{"0s acquire"}, err: errors.New("no such link"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{began: time.Now(), acquire: c.acquire, extend: c.extend}
				ctx, cancel := context.WithTimeout(t.Context(), c.until)
				defer cancel()
				err := keep(ctx, scripted{s}, slog.New(slog.DiscardHandler), func(l Lease) { s.note("%v", l.Prefix) })
				if fmt.Sprint(err) != fmt.Sprint(c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				if got := folded(s.said, c.want); !slices.Equal(got, c.want) {
					t.Errorf("said\n\t%s\nwant\n\t%s", strings.Join(s.said, "\n\t"), strings.Join(c.want, "\n\t"))
				}
			})
		})
	}
}

// folded puts "... WORD" where want has it, for as many lines with that word as come before the next line of want.
func folded(said, want []string) (out []string) {
	for _, w := range want {
		word, many := strings.CutPrefix(w, "... ")
		if !many {
			if len(said) > 0 {
				out, said = append(out, said[0]), said[1:]
			}
			continue
		}
		next := ""
		if i := len(out) + 1; i < len(want) {
			next = want[i]
		}
		n := 0
		for n < len(said) && said[n] != next && strings.HasSuffix(said[n], " "+word) {
			n++
		}
		if n > 0 {
			out, said = append(out, w), said[n:]
		}
	}
	return append(out, said...)
}
