package radio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// maxAnswer bounds an answer on a control socket.
const maxAnswer = 4096

// ask sends one command to the control socket of wpa_supplicant or hostapd and returns its answer.
func (n *Node) ask(ctx context.Context, socket, command string) (string, error) {
	folder, err := os.MkdirTemp(n.folder, "control-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(folder) }() // it goes with the bed at the latest
	own := &net.UnixAddr{Name: filepath.Join(folder, "own"), Net: "unixgram"}
	conn, err := net.DialUnix("unixgram", own, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // the answer is there, or not
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write([]byte(command)); err != nil {
		return "", err
	}
	answer := make([]byte, maxAnswer)
	m, err := conn.Read(answer)
	if err != nil {
		return "", errors.Join(err, context.Cause(ctx))
	}
	return strings.TrimSpace(string(answer[:m])), nil
}

// control is ask for a command whose good answer is OK.
func (n *Node) control(ctx context.Context, socket, command string) error {
	answer, err := n.ask(ctx, socket, command)
	if err == nil && answer != "OK" {
		err = fmt.Errorf("answer is %q", answer)
	}
	if err != nil {
		verb, _, _ := strings.Cut(command, " ") // what follows may hold a secret
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}
