// Command demo is the guest's half of `make demo`: two nodes with simulated
// radios and real wpa_supplicant, an agent on each, and one command that moves
// a file from the first to the second with no network there before.
//
// It is started inside the lab's guest by `go run ./lab/cmd/lab demo`, and ends
// with a table of the steps and the hashes; its exit status is 0 only when
// they match.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

const (
	fileBytes   = 64 << 20
	folderFiles = 500
	limit       = 10 * time.Minute // emulated machines are slow
)

func main() {
	nigh := flag.String("nigh", "", "path of the nigh program")
	tui := flag.Bool("tui", false, "show the first node's terminal UI on this terminal")
	verbose := flag.Bool("v", false, "print the agents' logs at the end")
	limit := flag.Duration("limit", limit, "how long the whole demonstration may take")
	rounds := flag.Int("rounds", 0, "measure the times of this many connections instead")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, *limit)
	err := run(ctx, *nigh, *tui, *verbose, *rounds)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

// run does the demonstration and prints its table.
func run(ctx context.Context, nigh string, tui, verbose bool, rounds int) (err error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if tui {
		say("The first node's terminal UI opens in a moment. Look around; q leaves it, and the table follows.")
	}
	bed, err := radio.Open(ctx, radio.Config{Nodes: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	say("two nodes with a simulated radio and a real wpa_supplicant each")
	dir, err := os.MkdirTemp("", "nigh-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the guest ends soon, and its /tmp with it
	if rounds > 0 {
		return measure(ctx, nigh, bed, dir, rounds, verbose)
	}
	agents := make([]*node.Agent, 2)
	for i, name := range []string{"ada", "bob"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
		agents[i], err = node.Start(ctx, node.Config{
			Binary: nigh, Dir: filepath.Join(dir, name), Name: name, Command: bed.Nodes[i].Command,
			Args: []string{"--accept", "trusted"},
		})
		if err != nil {
			return err
		}
		defer func() { _ = agents[i].Kill() }() // what was to be shown has been, or failed for a better reason
		if verbose {
			defer func() { fmt.Printf("--- log of %s\n%s\n", name, agents[i].Tail()) }()
		}
	}
	ada, bob := agents[0], agents[1]
	say("an agent on each")
	if err := introduce(ctx, ada, bob); err != nil {
		return err
	}
	say("each was told the other's device ID: nigh trust add ID")
	if err := material(filepath.Join(dir, "send")); err != nil {
		return err
	}
	clock := &recorder{}
	clock.restart()
	var watching sync.WaitGroup
	defer watching.Wait()
	watch, unwatch := context.WithCancel(ctx)
	defer unwatch()
	for _, a := range agents {
		events, err := a.Client().Watch(watch)
		if err != nil {
			return err
		}
		watching.Go(func() { clock.follow(a.Name, events) })
	}
	job := make(chan error, 1)
	go func() {
		job <- send(ctx, ada, dir, clock, func(f string, v ...any) { // awaited below
			if !tui {
				say(f, v...)
			}
		})
	}()
	if tui {
		cmd := bed.Nodes[0].Command(ctx, nigh)
		cmd.Env = append(cmd.Env, "NIGH_SOCKET="+ada.Socket, "HOME="+ada.Dir)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("the terminal UI: %w", err)
		}
	}
	if err := <-job; err != nil {
		return fmt.Errorf("%w\n--- ada\n%s\n--- bob\n%s", err, ada.Tail(), bob.Tail())
	}
	unwatch()
	watching.Wait()
	return report(clock, filepath.Join(dir, "send"), bob.Inbox)
}

// introduce tells each agent the other's device ID, and waits for their radios.
func introduce(ctx context.Context, ada, bob *node.Agent) error {
	if err := node.Befriend(ctx, ada, bob); err != nil {
		return err
	}
	for _, a := range []*node.Agent{ada, bob} {
		if err := a.Await(ctx, func(s control.State) bool { return s.Status.Radio.State == "ready" }); err != nil {
			return err
		}
	}
	return nil
}

// send is the main job: one command for a file, one for a folder.
func send(ctx context.Context, ada *node.Agent, dir string, clock *recorder, say func(string, ...any)) error {
	for _, what := range []string{"film.bin", "folder"} {
		say("ada: nigh send %s --to bob --wait", what)
		clock.mark("ada", "command: send "+what)
		out, errs, code := ada.Run(ctx, "send", filepath.Join(dir, "send", what), "--to", "bob", "--wait")
		if code != 0 {
			return fmt.Errorf("nigh send %s: exit %d\n%s%s", what, code, out, errs)
		}
		clock.mark("ada", what+" delivered")
		say("%s delivered", what)
	}
	return nil
}

// recorder notes when what happened on which node.
type recorder struct {
	mu    sync.Mutex
	began time.Time       // guarded by mu
	marks []mark          // guarded by mu
	seen  map[string]bool // guarded by mu
}

type mark struct {
	at         time.Duration
	node, what string
}

// restart forgets all marks and counts from now.
func (r *recorder) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.marks, r.seen = time.Now(), nil, nil
}

// mark notes something once for each node.
func (r *recorder) mark(node, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	if key := node + what; !r.seen[key] {
		r.seen[key] = true
		r.marks = append(r.marks, mark{time.Since(r.began), node, what})
	}
}

// follow notes what an agent's events say.
func (r *recorder) follow(name string, events <-chan control.Event) {
	var state control.State
	for e := range events {
		node.Apply(&state, e)
		if e.Step != nil && e.Step.State == "ok" {
			r.mark(name, map[string]string{
				"find": "device found", "group": "group started: " + e.Step.Text, "address": "addresses: " + e.Step.Text,
			}[e.Step.Name])
		}
		for _, p := range state.Peers {
			if p.State == "ready" {
				r.mark(name, "session with "+p.Name+", keys proved")
			}
		}
		if t := e.Transfer; t != nil && t.BytesDone > 0 && t.State != "done" {
			r.mark(name, "first bytes of "+t.Name)
		}
	}
}

// report prints the table and compares the hashes.
func report(r *recorder, sent, received string) error {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tNODE\tSTEP")
	r.mu.Lock()
	for _, m := range r.marks {
		if m.what != "" {
			fmt.Fprintf(w, "%.2f s\t%s\t%s\n", m.at.Seconds(), m.node, m.what)
		}
	}
	r.mu.Unlock()
	fmt.Fprintln(w)
	fmt.Fprintln(w, "WHAT\tSENT (SHA-256)\tRECEIVED\t")
	var wrong error
	for _, what := range []string{"film.bin", "folder"} {
		a, err := digest(filepath.Join(sent, what))
		if err != nil {
			return err
		}
		b, err := digest(filepath.Join(received, what))
		if err != nil {
			return err
		}
		verdict := "equal"
		if a != b {
			verdict = "DIFFERENT"
			wrong = errors.New("the hashes differ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", what, a[:24], b[:24], verdict)
	}
	return errors.Join(w.Flush(), wrong)
}

// material makes what is sent: one large file and a folder of many.
func material(dir string) error {
	if err := node.Random(filepath.Join(dir, "film.bin"), fileBytes); err != nil {
		return err
	}
	for i := range folderFiles {
		sub := filepath.Join(dir, "folder", fmt.Sprintf("part-%02d", i%10))
		if err := node.Random(filepath.Join(sub, fmt.Sprintf("note-%03d.txt", i)), int64(1000+13*i)); err != nil {
			return err
		}
	}
	return nil
}

// digest is the SHA-256 of a file's or folder's names and contents.
func digest(root string) (string, error) {
	d, err := node.Digest(root)
	sum := sha256.Sum256([]byte(d))
	return hex.EncodeToString(sum[:]), err
}
