package pairing

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
)

// middle is a man in the middle: to each of two devices he is the other one, with
// keys of his own, and passes on what he likes. The devices know each other by what
// they were told on the air, which he forged, so that the IDs they use are his.
type middle struct {
	toA, toB *stranger // whom a and b see
	listener net.Listener
	conns    sync.WaitGroup
	at       netip.AddrPort
}

// between begins to serve a as if he were b.
func between(t *testing.T, a, b *device, serve func(m *middle, in *raw, up *raw) http.Handler) *middle {
	t.Helper()
	m := &middle{toA: newStranger(t), toB: newStranger(t)}
	l, err := tls.Listen("tcp", "127.0.0.1:0", m.toA.tls("nigh/1", "nigh/1r"))
	if err != nil {
		t.Fatal(err)
	}
	m.listener, m.at = l, l.Addr().(*net.TCPAddr).AddrPort()
	a.put(m.toA.id.ID, m.at)
	m.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.conns.Go(func() {
				defer c.Close()
				inner := c.(*tls.Conn)
				if inner.HandshakeContext(context.Background()) != nil {
					return
				}
				in := newRaw(t, m.toA.id.ID, inner)
				in.who = parties{asker: in.who.asked, asked: m.toA.id.ID, binding: in.binding}
				up, err := m.toB.tryDial(b.addr())
				if err != nil {
					return
				}
				defer up.close()
				// Hidden, because net/http serves only protocols that it knows on a *tls.Conn.
				one := &oneConn{c: struct{ net.Conn }{inner}, closed: make(chan struct{})}
				_ = (&http.Server{Handler: serve(m, in, up), ConnState: func(_ net.Conn, s http.ConnState) {
					if s == http.StateClosed {
						one.Close()
					}
				}}).Serve(one)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return m
}

// oneConn is a listener with one connection.
type oneConn struct {
	c      net.Conn
	given  bool
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return l.c.LocalAddr() }

// relay passes every message on as it is.
func relay(_ *middle, _, up *raw) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		resp, err := up.client.Post("http://nigh"+r.URL.Path, "application/json", strings.NewReader(string(body)))
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})
}

// One who only relays is found by the commitment: it is bound to the connection.
func TestRelayInTheMiddle(t *testing.T) {
	a, b := newDevice(t, "ada"), newDevice(t, "bob")
	m := between(t, a, b, relay)
	_, err := a.Compare(wait(t), m.toA.id.ID)
	is(t, "the asker", err, ErrTampered)
	if len(b.List()) != 0 || a.trusts(m.toA.id.ID) || b.trusts(m.toB.id.ID) || a.trusts(b.id.ID) || b.trusts(a.id.ID) {
		t.Error("something came of it")
	}
}

// impersonate runs the protocol with both sides at once, each with its own keys and
// nonces.
func impersonate(t *testing.T, done func(m *middle, nonces [4]word)) func(*middle, *raw, *raw) http.Handler {
	return func(m *middle, in, up *raw) http.Handler {
		var fromA commitMessage
		var toB, ofB, toA word
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/commit"):
				if read(r.Body, &fromA) != nil {
					return
				}
				// He has to say a nonce to a and a commitment to b before either reveals.
				toB, toA = newNonce(), newNonce()
				var err error
				if ofB, err = up.commit(toB); err != nil {
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				answer(w, http.StatusOK, commitAnswer{Version: 1, Name: "bob", Nonce: toA})
			case strings.HasSuffix(r.URL.Path, "/reveal"):
				var m2 revealMessage
				if read(r.Body, &m2) != nil {
					return
				}
				status, _ := up.say("reveal", revealMessage{toB})
				done(m, [4]word{m2.Nonce, toA, toB, ofB})
				answer(w, status, struct{}{})
			case strings.HasSuffix(r.URL.Path, "/confirm"):
				var c confirmMessage
				_ = read(r.Body, &c)
				if c.MAC != nil {
					mac := up.who.confirmation(asker, toB, ofB)
					c.MAC = &mac
				}
				_, a := up.say("confirm", c)
				state, _ := a["state"].(string)
				if state == "" {
					state = "refused"
				}
				answer(w, http.StatusOK, confirmAnswer{State: state})
			}
		})
	}
}

// One who plays the protocol with both sides makes them show different codes, and a
// user who compares them says no: nothing is trusted.
func TestManInTheMiddleShowsDifferentCodes(t *testing.T) {
	same := 0
	for range 5 {
		a, b := newDevice(t, "ada"), newDevice(t, "bob")
		m := between(t, a, b, impersonate(t, func(*middle, [4]word) {}))
		atA, err := a.Compare(wait(t), m.toA.id.ID)
		if err != nil {
			t.Fatal(err)
		}
		atB := b.question(func(Pairing) bool { return true })
		if atA.Code == atB.Code {
			same++ // one in a million
			continue
		}
		a.answer(atA, false)
		is(t, "the asker", a.outcome(atA.ID), ErrCancelled)
		b.answer(atB, false)
		if a.trusts(m.toA.id.ID) || b.trusts(m.toB.id.ID) || a.trusts(b.id.ID) || b.trusts(a.id.ID) {
			t.Error("somebody is trusted")
		}
		_ = m.listener.Close()
	}
	if same > 0 {
		t.Errorf("%d of 5 codes were the same", same)
	}
}

// The one careful user is enough: what the careless one said yes to is not trusted.
func TestOneCarefulUserIsEnough(t *testing.T) {
	a, b := newDevice(t, "ada"), newDevice(t, "bob")
	m := between(t, a, b, impersonate(t, func(*middle, [4]word) {}))
	atA, err := a.Compare(wait(t), m.toA.id.ID)
	if err != nil {
		t.Fatal(err)
	}
	a.answer(atA, true) // without looking
	b.answer(b.question(func(Pairing) bool { return true }), false)
	if err := a.outcome(atA.ID); err == nil {
		t.Error("the careless side is paired")
	}
	if a.trusts(m.toA.id.ID) || b.trusts(m.toB.id.ID) {
		t.Error("the man in the middle is trusted")
	}
}

// He cannot grind: a nonce chosen after he has seen the other's is refused, though it
// would give the code that he needs.
func TestCodesCannotBeGround(t *testing.T) {
	b := newDevice(t, "bob")
	b.limits.dropped = defaultLimits.dropped
	s := newStranger(t)
	r := s.dial(b.addr())
	theirs, err := r.commit(newNonce())
	if err != nil {
		t.Fatal(err)
	}
	// The code that a's screen shows, say. Work finds a nonce for the first digits of it
	// in no time; the commitment is what stops it.
	var ground word
	for tries := 0; ; tries++ {
		if ground = newNonce(); strings.HasPrefix(r.who.code(ground, theirs), "483") {
			t.Logf("found after %d tries", tries)
			break
		}
	}
	status, a := r.say("reveal", revealMessage{ground})
	if status != http.StatusForbidden || a["code"] != "tampered" {
		t.Errorf("the nonce was answered with %d %v", status, a)
	}
	// And he does not get another try soon, with this key or any.
	for _, who := range []*stranger{s, newStranger(t)} {
		if _, err := who.dial(b.addr()).commit(newNonce()); err == nil {
			t.Error("he may try again at once")
		}
	}
	if len(b.List()) != 0 {
		t.Error("the user was asked")
	}
}

// He cannot choose among many tries either: one that he lets go, because its code is not
// the one that he needs, is the last for as long as that one is shown. The user of the
// device is not kept from pairing meanwhile.
func TestDroppedTriesAreNotFree(t *testing.T) {
	a, b := two(t)
	b.limits.dropped = time.Hour
	r := newStranger(t).dial(b.addr())
	if _, err := r.commit(newNonce()); err != nil {
		t.Fatal(err)
	}
	r.close()
	if err := b.idle(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := newStranger(t).dial(b.addr()).commit(newNonce()); err == nil {
			t.Error("a second try was heard")
		}
	}
	atB, err := b.Compare(wait(t), a.id.ID)
	if err != nil {
		t.Fatal(err)
	}
	a.answer(a.question(func(p Pairing) bool { return p.Code == atB.Code }), true)
	b.answer(atB, true)
	if err := b.outcome(atB.ID); err != nil {
		t.Error(err)
	}
}

// The codes of two connections agree once in a million, whatever the nonces.
func TestCodesAreSpreadEvenly(t *testing.T) {
	var who [2]parties
	for i := range who {
		who[i] = parties{asker: identity.DeviceID{1}, asked: identity.DeviceID{2}, binding: [32]byte{byte(i)}}
	}
	const n = 400_000
	same := 0
	first := [10]int{}
	a, b := newNonce(), newNonce()
	for i := range n {
		a[0], a[1], a[2] = byte(i), byte(i>>8), byte(i>>16)
		one, two := who[0].code(a, b), who[1].code(a, b)
		if len(one) != 6 {
			t.Fatalf("the code is %q", one)
		}
		if one == two {
			same++
		}
		first[one[0]-'0']++
	}
	if same > 6 { // 0.4 expected; more than 6 has a probability below 1e-7
		t.Errorf("%d of %d pairs of codes agree", same, n)
	}
	for d, k := range first {
		if k < n/10-2000 || k > n/10+2000 { // ten standard deviations
			t.Errorf("%d of %d codes begin with %d", k, n, d)
		}
	}
}

// A device that answers in another's place is found before anything is shown.
func TestImpostorAtTheAddress(t *testing.T) {
	a, b := newDevice(t, "ada"), newDevice(t, "bob")
	m := between(t, a, b, relay)
	a.put(b.id.ID, m.at) // a forged announcement leads b's address to him
	if _, err := a.Compare(wait(t), b.id.ID); err == nil {
		t.Error("another device answered for b")
	}
	if _, err := a.WithCode(wait(t), b.id.ID, must(b.SetupCode(false))); err == nil {
		t.Error("another device answered for b's setup code")
	}
	if wait, wrong := b.SetupLock(); wrong != 0 || wait != 0 {
		t.Errorf("b counted %d tries", wrong)
	}
}

// A relayed proof of the setup code is worth nothing, in either direction, even though
// the user typed the right code.
func TestSetupCodeThroughAMan(t *testing.T) {
	a, b := newDevice(t, "ada"), newDevice(t, "bob")
	code := must(b.SetupCode(false))
	m := between(t, a, b, relay)
	_, err := a.WithCode(wait(t), m.toA.id.ID, code)
	is(t, "the asker", err, ErrWrongCode)
	if a.trusts(m.toA.id.ID) || b.trusts(m.toB.id.ID) {
		t.Error("somebody is trusted")
	}
	if _, wrong := b.SetupLock(); wrong != 1 {
		t.Errorf("%d wrong tries were counted", wrong)
	}
}

// A device that does not know its setup code is not trusted, whatever it answers.
func TestImpostorWithoutTheCode(t *testing.T) {
	a, b := newDevice(t, "ada"), newDevice(t, "bob")
	code := must(b.SetupCode(false))
	var proofs []word
	m := between(t, a, b, func(_ *middle, _, _ *raw) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var c codeMessage
			_ = read(r.Body, &c)
			proofs = append(proofs, c.Proof)
			answer(w, http.StatusOK, codeAnswer{Name: "bob", Proof: c.Proof}) // the asker's own
		})
	})
	_, err := a.WithCode(wait(t), m.toA.id.ID, code)
	is(t, "the asker", err, ErrTampered)
	if a.trusts(m.toA.id.ID) {
		t.Error("the impostor is trusted")
	}
	if len(proofs) != 1 || proofs[0] == (word{}) {
		t.Errorf("he saw %d proofs", len(proofs))
	}
}

// A peer that answers confirm at once, for ever, or not at all, ends with the time.
func TestAPeerThatNeverEnds(t *testing.T) {
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request){
		"open for ever": func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, confirmAnswer{State: "open"}) },
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else nobody notices that the asker has gone
			<-r.Context().Done()
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1000)); err != nil {
					return
				}
			}
		},
		"paired at once": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, confirmAnswer{State: "paired", MAC: &word{1}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newDevice(t, "ada"), newDevice(t, "bob")
			a.limits.question, a.limits.request = 700*time.Millisecond, 500*time.Millisecond
			m := between(t, a, b, func(_ *middle, _, _ *raw) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.HasSuffix(r.URL.Path, "/commit"):
						answer(w, http.StatusOK, commitAnswer{Version: 1, Nonce: newNonce()})
					case strings.HasSuffix(r.URL.Path, "/reveal"):
						answer(w, http.StatusOK, struct{}{})
					default:
						serve(w, r)
					}
				})
			})
			p, err := a.Compare(wait(t), m.toA.id.ID)
			if err == nil {
				_ = a.Answer(p.ID, true)
				err = a.outcome(p.ID)
			}
			if err == nil || a.trusts(m.toA.id.ID) {
				t.Errorf("outcome %v, trusted %v", err, a.trusts(m.toA.id.ID))
			}
			if !errors.Is(err, ErrExpired) && !errors.Is(err, ErrLost) && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrTampered) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// A device that is asked may answer anything at each step: the asker ends, shows no code
// that it was not to show, and trusts nobody.
func TestOddAnswers(t *testing.T) {
	commit := func(v any) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, what string) {
			if what == "commit" {
				answer(w, http.StatusOK, v)
			}
		}
	}
	text := func(status int, body string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, _ string) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, serve := range map[string]func(w http.ResponseWriter, what string){
		"a nonce of zeros":      commit(commitAnswer{Version: 1}),
		"no version":            commit(commitAnswer{Nonce: newNonce()}),
		"a short nonce":         commit(map[string]any{"v": 1, "nonce": "AAAA"}),
		"a number":              commit(map[string]any{"v": 1, "nonce": -1}),
		"a huge version":        text(http.StatusOK, `{"v":1e999}`),
		"a list":                text(http.StatusOK, `[]`),
		"nothing":               text(http.StatusOK, ""),
		"16 MiB":                text(http.StatusOK, strings.Repeat(" ", 16<<20)),
		"crossed for ever":      func(w http.ResponseWriter, _ string) { refuse(w, errCrossed) },
		"an unknown refusal":    text(http.StatusTeapot, `{"code":"no such code"}`),
		"an error page":         text(http.StatusInternalServerError, "<html>"+strings.Repeat("x", 1<<20)),
		"it is of an older day": text(http.StatusNotFound, "404 page not found"),
		"a redirect": func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", "http://nigh/v1/pair/commit")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"the reveal is refused": func(w http.ResponseWriter, what string) {
			if what == "commit" {
				answer(w, http.StatusOK, commitAnswer{Version: 1, Nonce: newNonce()})
				return
			}
			refuse(w, ErrTampered)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newDevice(t, "ada"), newDevice(t, "bob")
			a.limits.crossed = 100 * time.Millisecond
			m := between(t, a, b, func(_ *middle, _, _ *raw) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					serve(w, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
				})
			})
			if p, err := a.Compare(wait(t), m.toA.id.ID); err == nil || len(a.List()) != 0 {
				t.Errorf("the asker shows %+v", p)
			}
			if _, err := a.WithCode(wait(t), m.toA.id.ID, NewSetupCode().Text()); err == nil {
				t.Error("it is paired by a setup code")
			}
			if a.trusts(m.toA.id.ID) || len(a.book.List()) != 0 {
				t.Error("it is trusted")
			}
		})
	}
}
