package org.runbook.practice;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;

/** What Java 8 has no method for. */
public final class Streams {
    private Streams() {
    }

    public static byte[] readAll(InputStream in) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] block = new byte[8192];
        for (int read = in.read(block); read >= 0; read = in.read(block)) {
            out.write(block, 0, read);
        }
        return out.toByteArray();
    }
}
