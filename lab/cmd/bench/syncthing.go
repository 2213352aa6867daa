package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nigh/lab"
)

const (
	syncthingPort = 22000
	syncthingKey  = "bench" // of its local API, on a socket that is ours alone
)

// syncthing is one of two running ones that share a folder.
type syncthing struct {
	home, id string
	host     *lab.Host
	api      *http.Client
	cmd      *exec.Cmd // that runs
}

func (s *syncthing) folder() string { return filepath.Join(s.home, "shared") }
func (s *syncthing) socket() string { return filepath.Join(s.home, "api") }

// useSyncthing prepares two syncthings that share a folder and know each other's address: no discovery, no relay, no watching.
// For each move both are started with nothing in their databases, which is not measured; then the source is put into the
// sender's folder, it is told to scan, and the move ends when the receiver has all. The scan, which hashes, is measured too, for
// nothing moves without it.
func useSyncthing(b *bed) mover {
	hosts, addresses := []*lab.Host{b.sender, b.receiver}, []string{senderAddress, receiverAddress}
	var sides []*syncthing
	var devices, members string
	for i, host := range hosts {
		s := &syncthing{home: b.TempDir(), host: host}
		sides = append(sides, s)
		run := func(args ...string) string {
			out, err := exec.Command("syncthing", args...).CombinedOutput()
			if err != nil {
				b.Fatalf("syncthing: %v: %s", err, out)
			}
			return strings.TrimSpace(string(out))
		}
		run("generate", "--home="+s.home, "--no-default-folder", "--skip-port-probing")
		s.id = run("serve", "--home="+s.home, "--device-id")
		devices += fmt.Sprintf("<device id=%q><address>tcp://%s:%d</address></device>\n", s.id, addresses[i], syncthingPort)
		members += fmt.Sprintf("<device id=%q></device>", s.id)
		s.api = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket())
		}}}
	}
	for i, s := range sides {
		text := fmt.Sprintf(`<configuration version="36">
<folder id="bench" path=%q type="sendreceive" rescanIntervalS="0" fsWatcherEnabled="false">%s</folder>
%s<gui enabled="true" tls="false"><address>%s</address><apikey>%s</apikey></gui>
<options><listenAddress>tcp://%s:%d</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
<localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
<startBrowser>false</startBrowser><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>
<setLowPriority>false</setLowPriority><reconnectionIntervalS>5</reconnectionIntervalS></options>
</configuration>
`, s.folder(), members, devices, s.socket(), syncthingKey, addresses[i], syncthingPort)
		b.must(os.WriteFile(filepath.Join(s.home, "config.xml"), []byte(text), 0o600))
	}
	return func(ctx context.Context, b *bed, source, target string) (m measurement, err error) {
		// The receiver first: a sender that finds nobody waits before it dials again.
		for _, s := range []*syncthing{sides[1], sides[0]} {
			if err := s.start(ctx, b); err != nil {
				return m, err
			}
			defer s.stop()
		}
		for i, s := range sides {
			if err := s.connected(ctx, sides[1-i].id); err != nil {
				return m, err
			}
		}
		return moveSyncthing(ctx, sides[0], sides[1], source, target)
	}
}

// start starts it as one that has never had a file.
func (s *syncthing) start(ctx context.Context, b *bed) error {
	old, err := filepath.Glob(filepath.Join(s.home, "index-*"))
	if err != nil {
		return err
	}
	for _, path := range append(old, s.folder()) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(s.folder(), ".stfolder"), 0o700); err != nil {
		return err
	}
	s.cmd = b.command(context.WithoutCancel(ctx), s.host, "syncthing", "serve", "--home="+s.home, "--no-browser", "--no-restart", "--no-upgrade")
	s.cmd.Env = append(environment(), "HOME="+s.home)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	if err := b.listening(ctx, s.cmd.Process.Pid, syncthingPort); err != nil {
		s.stop()
		return said(s.cmd, err)
	}
	return nil
}

func (s *syncthing) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // its status is that of the signal
	_ = s.cmd.Wait()
	s.api.CloseIdleConnections()
}

func (s *syncthing) connected(ctx context.Context, other string) error {
	return until(ctx, "the two syncthings do not connect", func() bool {
		var answer struct {
			Connections map[string]struct{ Connected bool }
		}
		return s.ask(ctx, http.MethodGet, "/rest/system/connections", &answer) == nil && answer.Connections[other].Connected && s.settled(ctx, 0) == nil
	})
}

func moveSyncthing(ctx context.Context, sender, receiver *syncthing, source, target string) (m measurement, err error) {
	all, err := entries(source)
	if err != nil {
		return m, err
	}
	files := 0
	for _, mode := range all {
		if mode.IsRegular() {
			files++
		}
	}
	name := filepath.Base(source)
	there := filepath.Join(sender.folder(), name)
	if err := os.Rename(source, there); err != nil {
		return m, err
	}
	m, err = using(sender.cmd.Process.Pid, receiver.cmd.Process.Pid, func() error {
		if err := sender.ask(ctx, http.MethodPost, "/rest/db/scan?folder=bench", nil); err != nil {
			return err
		}
		return receiver.settled(ctx, files)
	})
	err = errors.Join(err, os.Rename(there, source))
	if err != nil {
		return m, err
	}
	return m, os.Rename(filepath.Join(receiver.folder(), name), filepath.Join(target, name))
}

// settled waits until the folder has so many files, and all of them are here.
func (s *syncthing) settled(ctx context.Context, files int) error {
	for since := 0; ; {
		var status struct {
			State                                                string
			GlobalFiles, NeedFiles, NeedDirectories, NeedDeletes int
			NeedBytes                                            int64
			PullErrors                                           int
		}
		if err := s.ask(ctx, http.MethodGet, "/rest/db/status?folder=bench", &status); err != nil {
			return err
		}
		if status.PullErrors > 0 {
			var said struct {
				Errors []struct{ Path, Error string }
			}
			if err := s.ask(ctx, http.MethodGet, "/rest/folder/errors?folder=bench", &said); err != nil {
				return err
			}
			return fmt.Errorf("syncthing cannot move: %v", said.Errors)
		}
		if status.State == "idle" && status.GlobalFiles == files && status.NeedFiles+status.NeedDirectories+status.NeedDeletes == 0 && status.NeedBytes == 0 {
			return nil
		}
		// It answers when its state changes, and after a second in any case.
		var events []struct {
			ID int
		}
		path := "/rest/events?events=StateChanged&timeout=1&since=" + strconv.Itoa(since)
		if err := s.ask(ctx, http.MethodGet, path, &events); err != nil {
			return err
		}
		for _, e := range events {
			since = max(since, e.ID)
		}
	}
}

// ask makes a request to the local API; a nil answer is not read.
func (s *syncthing) ask(ctx context.Context, method, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://syncthing"+path, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	r.Header.Set("X-API-Key", syncthingKey)
	response, err := s.api.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("syncthing answers %s to %s", response.Status, path)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
