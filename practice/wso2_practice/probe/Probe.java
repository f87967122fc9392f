import java.io.IOException;
import java.net.InetAddress;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpSession;

/** Tells which node answered, in which session, and how often that session was seen. Runs on a real AS as well. */
public class Probe extends HttpServlet {
    private static final long serialVersionUID = 1L;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        HttpSession session = request.getSession();
        int count;
        synchronized (session) {
            Object before = session.getAttribute("counter");
            count = before == null ? 1 : (Integer) before + 1;
            session.setAttribute("counter", count);
        }
        response.setContentType("application/json;charset=UTF-8");
        response.setHeader("Cache-Control", "no-store");
        response.getWriter().write("{\"node\":\"" + request.getLocalAddr() + "\",\"host\":\""
                + InetAddress.getLocalHost().getHostName() + "\",\"session\":\"" + session.getId() + "\",\"counter\":"
                + count + "}\n");
    }
}
