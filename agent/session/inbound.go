package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/trust"
)

// Inbound is what became of a connection that a device tried to make to us.
type Inbound string

// The outcomes.
const (
	InboundOpen     Inbound = "open"     // it reached us, and we proved our key
	InboundRefused  Inbound = "refused"  // reset: nobody listens there, or a firewall says so
	InboundRejected Inbound = "rejected" // an ICMP error: a firewall, or no way back
	InboundSilent   Inbound = "silent"   // no answer: a firewall drops it
)

// ErrNotChecked is returned when a device does not check whether it can dial us:
// it was asked too often, or its nigh is too old.
var ErrNotChecked = errors.New("session: the device does not check")

// Greeting is what a device says of itself when it greets us. Nothing in it is
// proved.
type Greeting struct {
	Name string // safe to show, at most 64 characters; "" when it is not told
	Port uint16 // TCP port of its sessions; 0 when it is not told: then it is not to be listed by what it said before
}

// greetingHeader carries a [Greeting] as a URL query.
const greetingHeader = "Nigh-Greeting"

// greeting is what we say of ourselves to the device id.
func (s *Sessions) greeting(id identity.DeviceID) string {
	peer, port := Peer{ID: id, Standing: s.standing(id)}, s.Port()
	if s.cfg.Hidden != nil && s.cfg.Hidden(peer) {
		port = 0
	}
	v := url.Values{"port": {strconv.Itoa(int(port))}}
	if s.cfg.Name != nil {
		if name := s.cfg.Name(peer); name != "" {
			v.Set("name", clean.Name(name, maxHelloName))
		}
	}
	text := v.Encode()
	if len(text) > maxGreeting {
		v.Del("name") // every character was escaped
		text = v.Encode()
	}
	return text
}

// readGreeting reads what a device says of itself; what is not understood is left
// out.
func readGreeting(text string) (g Greeting) {
	if len(text) > maxGreeting {
		return g
	}
	v, err := url.ParseQuery(text)
	if err != nil {
		return g
	}
	g.Name = clean.Name(v.Get("name"), maxHelloName)
	if port, err := strconv.ParseUint(v.Get("port"), 10, 16); err == nil {
		g.Port = uint16(port)
	}
	return g
}

// The bodies of POST /v1/inbound.
type (
	inboundQuestion struct {
		Port uint16 `json:"port"`
	}
	inboundAnswer struct {
		Outcome Inbound `json:"outcome"`
	}
)

// CheckInbound asks the device id to dial us where it sees our connection come
// from, and returns what it found and the interface that it dialled. The question
// goes over the control connection; with a valid to it is asked on a connection of
// its own to that address. It waits at most 5 s for the answer, and 10 s for the
// connection where there is none. It returns an error wrapping [ErrNotChecked],
// [ErrUnreachable], or as the client of [Sessions.Control] does.
func (s *Sessions) CheckInbound(ctx context.Context, id identity.DeviceID, to netip.AddrPort) (outcome Inbound, ifname string, err error) {
	ctx, cancel := s.bound(ctx, dialTimeout+inboundPatience)
	defer cancel()
	if !s.begin() {
		return "", "", ErrClosed
	}
	defer s.work.Done()
	client := s.peer(id).control.client
	if to.IsValid() {
		there := func() []Candidate { return []Candidate{{Addr: to, Kind: "lan"}} }
		never := func() <-chan struct{} { return nil }
		c, err := s.race(ctx, there, never, purpose{want: id, urgent: true})
		if err != nil {
			return "", "", err
		}
		defer func() { _ = c.Close() }()
		once := newLine(newPeer(s, id), true)
		once.spare = c
		defer once.CloseIdleConnections()
		client = once.client
	}
	var on *conn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { on, _ = info.Conn.(*conn) },
	})
	question, err := json.Marshal(inboundQuestion{Port: s.Port()})
	if err != nil {
		return "", "", err
	}
	answer, err := post(ctx, client, "/v1/inbound", question)
	if err != nil {
		return "", "", fmt.Errorf("session: inbound: %w", err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxInbound))
	if err != nil {
		return "", "", fmt.Errorf("session: inbound: %w", err)
	}
	var said inboundAnswer
	if answer.StatusCode != http.StatusOK || json.Unmarshal(raw, &said) != nil {
		return "", "", fmt.Errorf("%w: status %d", ErrNotChecked, answer.StatusCode)
	}
	switch said.Outcome {
	case InboundOpen, InboundRefused, InboundRejected, InboundSilent:
	default:
		return "", "", fmt.Errorf("%w: it answers %.16q", ErrNotChecked, said.Outcome)
	}
	if on != nil {
		ifname = on.path.Ifname
	}
	return said.Outcome, ifname, nil
}

// serveInbound dials the device that asks, to find out for it whether that gets
// through. It goes nowhere but to the address that the question came from, and
// ends with a handshake that only that device can make: nobody can have us dial a
// third one, nor learn what else listens there.
func (s *Sessions) serveInbound(w http.ResponseWriter, r *http.Request) {
	peer := PeerFrom(r.Context())
	var q inboundQuestion
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxInbound))
	if err != nil || json.Unmarshal(raw, &q) != nil || q.Port < firstUserPort {
		http.Error(w, "bad question", http.StatusBadRequest)
		return
	}
	if !s.peer(peer.ID).inbound.Allow() || peer.Standing != trust.Trusted && !s.strange.Allow() {
		http.Error(w, "too many checks", http.StatusTooManyRequests)
		return
	}
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	default:
		http.Error(w, "busy", http.StatusTooManyRequests)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), inboundTimeout)
	defer cancel()
	to := Candidate{Addr: netip.AddrPortFrom(peer.Remote.Addr(), q.Port), Ifname: peer.Ifname}
	c, err := s.dialOnce(ctx, to, purpose{want: peer.ID})
	if err == nil {
		_ = c.Close()
	}
	outcome := inboundOutcome(err)
	s.log.Debug("Checked whether a device can be dialled", "peer", peer.ID.Short(), "address", to.Addr, "outcome", outcome, "err", err)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(inboundAnswer{outcome}) // a lost peer is noticed on the connection
}

// inboundOutcome says what an attempt to dial came to.
func inboundOutcome(err error) Inbound {
	switch {
	case err == nil:
		return InboundOpen
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return InboundRejected
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), isTimeout(err):
		return InboundSilent
	default: // a reset, or not the device that asked
		return InboundRefused
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
