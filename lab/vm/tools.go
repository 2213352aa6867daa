package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
)

// ErrMissingTools says that programs of the host are missing and could not be installed. The text names their packages.
var ErrMissingTools = errors.New("programs are missing")

// hostTools are the programs that the host itself must have, with their Debian packages.
var hostTools = []struct{ program, debian string }{
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"busybox", "busybox-static"},
	{"depmod", "kmod"},
	{"modprobe", "kmod"},
	{"ip", "iproute2"},
}

// installTools sees to it that the host's tools are there: as root it installs those that are not.
func installTools(ctx context.Context, logger *slog.Logger) error {
	missing := missingTools()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("vm: %w: as root run apt-get install %s", ErrMissingTools, strings.Join(missing, " "))
	}
	logger.Info("Installing tools", "packages", strings.Join(missing, " "))
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if _, err := apt(ctx, install...); err != nil {
		// The package lists may be absent or old.
		if _, err := apt(ctx, "update"); err != nil {
			return err
		}
		if _, err := apt(ctx, install...); err != nil {
			return err
		}
	}
	if missing := missingTools(); len(missing) > 0 {
		return fmt.Errorf("vm: %w even after install: packages %s", ErrMissingTools, strings.Join(missing, " "))
	}
	return nil
}

func missingTools() []string {
	var missing []string
	have := map[string]bool{}
	for _, t := range hostTools {
		if _, err := lookTool(t.program); err != nil && !have[t.debian] {
			have[t.debian] = true
			missing = append(missing, t.debian)
		}
	}
	return missing
}

// lookTool finds a program also in the administrator's folders, which are not in every user's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(folder + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("vm: %w: %s", exec.ErrNotFound, name)
}

// apt runs apt-get without questions, and waits for another apt-get instead of failing.
func apt(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300", "-q"}, args...)...)
}

// output runs a program of the host and returns its standard output; an error ends with the program's last words.
func output(ctx context.Context, name string, args ...string) (string, error) {
	return outputIn(ctx, "", name, args...)
}

func outputIn(ctx context.Context, folder, name string, args ...string) (string, error) {
	path, err := lookTool(name)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		if len(said) > 600 {
			said = "..." + said[len(said)-600:]
		}
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}
