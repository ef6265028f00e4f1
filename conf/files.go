package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// caps bound what one load reads.
type caps struct {
	octets     int // of all files
	files      int
	lines      int // of all files
	lineLength int
}

// defaultCaps are far above any sensible configuration and keep a wrong file from filling the memory.
var defaultCaps = caps{octets: 256 << 20, files: 100_000, lines: 5_000_000, lineLength: 1 << 20}

const (
	maxFileSize     = 64 << 20 // octets of one file
	maxIncludeDepth = 10       // libreswan's; the main file is at depth 1
)

// files is where includes come from: the file system, or a map in tests.
type files interface {
	read(path string) ([]byte, error)
	glob(pattern string) ([]string, error)
}

// osFiles is the file system.
type osFiles struct{}

// read reads a whole file of limited size. It never blocks on a pipe or a terminal.
func (osFiles) read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	return readRegular(f)
}

// readRegular reads an open file if it is a regular one or /dev/null.
func readRegular(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, plainPathError(err)
	case info.IsDir():
		return nil, errors.New("it is a directory")
	case !info.Mode().IsRegular() && f.Name() != os.DevNull:
		return nil, errors.New("it is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, plainPathError(err)
	case len(b) > maxFileSize:
		return nil, fmt.Errorf("it has more than %d octets", maxFileSize)
	}
	return b, nil
}

// plainPathError takes operation and path away, which the message names already.
func plainPathError(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// glob lists the files that a pattern matches, sorted, as glob(3) does: a star does not match a leading dot.
func (osFiles) glob(pattern string) ([]string, error) {
	found, err := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(path string) bool { return hiddenMatch(pattern, path) })
	slices.Sort(found)
	return found, nil
}

// hiddenMatch reports whether an element of the path begins with a dot that the pattern does not write.
func hiddenMatch(pattern, path string) bool {
	ps, ns := strings.Split(filepath.Clean(pattern), "/"), strings.Split(filepath.Clean(path), "/")
	if len(ps) != len(ns) {
		return false
	}
	for i := range ps {
		if strings.HasPrefix(ns[i], ".") && !strings.HasPrefix(ps[i], ".") {
			return true
		}
	}
	return false
}

// candidates are the patterns to try for an include, in order: beside the including file, then in the working directory.
func candidates(including, pattern string) []string {
	if filepath.IsAbs(pattern) || including == "-" {
		return []string{pattern}
	}
	beside := filepath.Join(filepath.Dir(including), pattern)
	if filepath.Dir(including) == "." {
		return []string{beside}
	}
	return []string{beside, pattern}
}
