package pgserver

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// jar builds what the repository serves: a zip file with a tar.xz of the programs in it.
func jar(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var tarred bytes.Buffer
	tw := tar.NewWriter(&tarred)
	for name, body := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	zw := zip.NewWriter(&zipped)
	w, err := zw.Create("postgres-some-machine.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(storedXZ(tarred.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped.Bytes()
}

// storedXZ wraps data in the xz format without compressing it: one block of LZMA2 chunks
// that say "stored", and no checksum over the content. The standard library has no xz.
func storedXZ(data []byte) []byte {
	flags := []byte{0, 0} // no check
	out := append([]byte{0xFD, '7', 'z', 'X', 'Z', 0}, flags...)
	out = append(out, crc(flags)...)
	// Block header: its size in words less one, no flags, LZMA2 with a 1 MiB dictionary.
	header := []byte{2, 0, 0x21, 1, 16, 0, 0, 0}
	block := append(header, crc(header)...)
	for rest, kind := data, byte(1); len(rest) > 0; kind = 2 { // the first resets the dictionary
		n := min(len(rest), 1<<16)
		block = append(block, kind, byte((n-1)>>8), byte(n-1))
		block = append(block, rest[:n]...)
		rest = rest[n:]
	}
	block = append(block, 0)
	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(block)))
	index = padded(binary.AppendUvarint(index, uint64(len(data))))
	index = append(index, crc(index)...)
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	for _, part := range [][]byte{padded(block), index, crc(footer), footer, []byte("YZ")} {
		out = append(out, part...)
	}
	return out
}

func crc(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
}

func padded(data []byte) []byte {
	return append(data, make([]byte, -len(data)&3)...)
}
